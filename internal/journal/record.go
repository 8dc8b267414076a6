package journal

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
)

// kind says what an operation is.
type kind byte

const (
	opWrite  kind = iota + 1 // data is in the file name from off on, to its end
	opRename                 // what from was is called name, and from nothing
	opLink                   // what from was is called name as well
	opGone                   // name is nothing
	opDir                    // name is a directory
	opStands                 // what is on the disk under name is as it should be
	opDoubt                  // files in the directory name may be torn
	opDone                   // the epoch before is over: its files are on the disk
)

// op is one operation. Which fields count depends on its kind.
type op struct {
	kind kind
	name string
	from string
	mode fs.FileMode
	off  int64
	data []byte
}

// A frame is the operations of one wave, all or none of them: the length of what
// follows the checksum, the CRC-32C of the epoch and of that, each in 4 bytes,
// little-endian, and the operations.
const frameHead = 8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum is the checksum of a frame. With the epoch in it, what an earlier epoch has
// left behind the last frame isn't taken for one.
func sum(epoch uint64, ops []byte) uint32 {
	return crc32.Update(crc32.Checksum(binary.LittleEndian.AppendUint64(nil, epoch), castagnoli), castagnoli, ops)
}

func (o op) append(b []byte) []byte {
	b = append(b, byte(o.kind))
	b = appendString(b, o.name)
	switch o.kind {
	case opRename, opLink:
		b = appendString(b, o.from)
	case opWrite:
		b = binary.AppendUvarint(b, uint64(o.mode.Perm()))
		b = binary.AppendUvarint(b, uint64(o.off)) //nolint:gosec // no offset in a file is negative
		b = appendString(b, o.data)
	case opGone, opDir, opStands, opDoubt, opDone:
	}
	return b
}

func appendString[S ~string | ~[]byte](b []byte, s S) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// errFrame is what parsing fails with: a frame whose checksum is right was
// written by another version of this code.
var errFrame = errors.New("journal: unknown operation")

// parseOps calls fn with each operation of a frame. Their data is a part of ops.
func parseOps(ops []byte, fn func(op)) error {
	r := reader{rest: ops}
	for len(r.rest) > 0 && !r.bad {
		o := op{kind: kind(r.byte())}
		o.name = string(r.bytes())
		switch o.kind {
		case opRename, opLink:
			o.from = string(r.bytes())
		case opWrite:
			o.mode = fs.FileMode(r.uvarint()).Perm() //nolint:gosec // Perm cuts off what is too much
			o.off = int64(r.uvarint())               //nolint:gosec // it was an int64
			o.data = r.bytes()
		case opGone, opDir, opStands, opDoubt, opDone:
		default:
			r.bad = true
		}
		if !r.bad {
			fn(o)
		}
	}
	if r.bad {
		return errFrame
	}
	return nil
}

// reader reads a frame; after the first failure it's bad and reads zeros.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) byte() byte {
	if len(r.rest) == 0 {
		r.bad = true
		return 0
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) bytes() []byte {
	n := r.uvarint()
	if r.bad || n > uint64(len(r.rest)) {
		r.bad = true
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}
