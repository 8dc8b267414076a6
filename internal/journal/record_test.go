package journal

import (
	"bytes"
	"io/fs"
	"testing"
)

func FuzzOperations(f *testing.F) {
	f.Add(byte(opWrite), "a/b", "from", uint32(0o640), int64(3), []byte("data"))
	f.Add(byte(opRename), "to", "from", uint32(0), int64(0), []byte(nil))
	f.Add(byte(opGone), "x", "", uint32(0), int64(0), []byte{1, 200, 7})
	f.Fuzz(func(t *testing.T, k byte, name, from string, mode uint32, off int64, data []byte) {
		_ = parseOps(data, func(op) {}) // whatever it is, it ends
		o := op{kind: kind(k), name: name}
		switch o.kind {
		case opWrite:
			o.mode, o.off, o.data = fs.FileMode(mode).Perm(), max(off, 0), data
		case opRename, opLink:
			o.from = from
		case opGone, opDir, opStands, opDoubt, opDone:
		default:
			return
		}
		var got []op
		frame := o.append(o.append(nil))
		if err := parseOps(frame, func(o op) { got = append(got, o) }); err != nil || len(got) != 2 {
			t.Fatalf("parsed %v, %v", got, err)
		}
		for _, g := range got {
			if g.kind != o.kind || g.name != o.name || g.from != o.from || g.mode != o.mode || g.off != o.off || !bytes.Equal(g.data, o.data) {
				t.Fatalf("parsed %v, want %v", g, o)
			}
		}
	})
}

func FuzzLog(f *testing.F) {
	h := head{epoch: 7, device: 1, inode: 2, boot: "boot"}
	log := h.encode()
	frame := op{kind: opGone, name: "x"}.append(make([]byte, frameHead))
	f.Add(append(log, frame...))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, ok, _ := readLog(data, func(op) {})
		if !ok {
			return
		}
		if again, ok := decodeHead(got.encode()); !ok || again != got {
			t.Fatalf("head %v, again %v", got, again)
		}
	})
}
