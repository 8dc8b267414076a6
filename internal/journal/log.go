package journal

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path"

	"github.com/caddy-oci/oci-registry/internal/vfs"
)

// logDir has the two files of a journal. They begin with "tmp-", as all does that
// has no place in a copy of the tree.
const logDir = "_journal"

func logName(n uint64) string { return path.Join(logDir, [...]string{"tmp-a", "tmp-b"}[n%2]) }

// A log is one of the two files: a head, and frames from headSize on.
//
//	"ocijrnl1"  epoch  device  inode  boot's length  boot   CRC-32C of that
//
// Numbers are 8 bytes, the checksum 4, little-endian. Device and inode are the
// file's own: in a copy they're others.
const (
	magic    = "ocijrnl1"
	headSize = 512
)

type log struct {
	file vfs.File
	end  int64 // of the last frame
	size int64 // of the file
	step int64 // by which it grows
}

// head says what a log is of.
type head struct {
	epoch         uint64
	device, inode uint64
	boot          string
}

func (h head) encode() []byte {
	b := make([]byte, 0, headSize)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint64(b, h.epoch)
	b = binary.LittleEndian.AppendUint64(b, h.device)
	b = binary.LittleEndian.AppendUint64(b, h.inode)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(h.boot)))
	b = append(b, h.boot...)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return append(b, make([]byte, headSize-len(b))...)
}

// isLater reports whether b begins as a log of a later version does. Of a head that
// was only begun there may be any part, and zeros behind it.
func isLater(b []byte) bool {
	const n = len(magic) - 1
	return len(b) > n && string(b[:n]) == magic[:n] && b[n] > magic[n]
}

// decodeHead returns false for what is none, as a file that was never begun.
func decodeHead(b []byte) (head, bool) {
	const fixed = len(magic) + 4*8
	if len(b) < headSize || string(b[:len(magic)]) != magic {
		return head{}, false
	}
	n := binary.LittleEndian.Uint64(b[fixed-8:])
	if n > uint64(headSize-fixed-4) {
		return head{}, false
	}
	end := fixed + int(n)
	if binary.LittleEndian.Uint32(b[end:]) != crc32.Checksum(b[:end], castagnoli) {
		return head{}, false
	}
	return head{
		epoch:  binary.LittleEndian.Uint64(b[8:]),
		device: binary.LittleEndian.Uint64(b[16:]),
		inode:  binary.LittleEndian.Uint64(b[24:]),
		boot:   string(b[fixed:end]),
	}, true
}

// openLog opens a log's file for writing, and makes it if it's missing.
func openLog(fsys vfs.FS, n uint64, step int64) (*log, error) {
	f, err := fsys.OpenFile(logName(n), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &log{file: f, size: fi.Size(), step: step}, nil
}

// begin makes the log one of an epoch, without frames. It's durable with its first frame.
func (l *log) begin(h head) error {
	if err := l.grow(headSize); err != nil {
		return err
	}
	if _, err := l.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err := l.file.Write(h.encode())
	l.end = headSize
	return err
}

// append writes a frame behind the last one and makes it durable. frame has room
// for the head at its beginning.
func (l *log) append(epoch uint64, frame []byte) error {
	binary.LittleEndian.PutUint32(frame, uint32(len(frame)-frameHead)) //nolint:gosec // a frame is smaller than a log
	binary.LittleEndian.PutUint32(frame[4:], sum(epoch, frame[frameHead:]))
	if err := l.grow(l.end + int64(len(frame))); err != nil {
		return err
	}
	if _, err := l.file.Write(frame); err != nil {
		return err
	}
	l.end += int64(len(frame))
	return vfs.SyncData(l.file)
}

// grow makes the file at least as large as end, in steps: what is written into it
// then changes nothing but its content, and most syncs find its size unchanged.
func (l *log) grow(end int64) error {
	if end <= l.size {
		return nil
	}
	if _, err := l.file.Seek(l.size, io.SeekStart); err != nil {
		return err
	}
	for to := (end + l.step - 1) / l.step * l.step; l.size < to; {
		n, err := l.file.Write(zeros[:min(to-l.size, int64(len(zeros)))])
		l.size += int64(n)
		if err != nil {
			return err
		}
	}
	_, err := l.file.Seek(l.end, io.SeekStart)
	return err
}

var zeros [64 << 10]byte

// readLog calls fn with the operations of each whole frame of a log, which refer
// to data that is read at once; false if there's no such log. A frame that isn't
// whole was never relied on.
func readLog(data []byte, fn func(op)) (head, bool, error) {
	h, ok := decodeHead(data)
	if !ok {
		return h, false, nil
	}
	for at := headSize; ; {
		ops := frameAt(data, at, h.epoch)
		if ops == nil {
			return h, true, nil
		}
		if err := parseOps(ops, fn); err != nil {
			return h, true, err
		}
		at += frameHead + len(ops)
	}
}

// frameAt returns the operations of the frame at a place, nil if there's none.
func frameAt(data []byte, at int, epoch uint64) []byte {
	if len(data)-at < frameHead {
		return nil
	}
	n := int(binary.LittleEndian.Uint32(data[at:]))
	ops := data[at+frameHead:]
	if n == 0 || n > len(ops) || sum(epoch, ops[:n]) != binary.LittleEndian.Uint32(data[at+4:]) {
		return nil
	}
	return ops[:n]
}
