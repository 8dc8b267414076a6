package filesystem_test

import (
	"io"
	"testing"

	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// greedy is content that notes what memory it's read into.
type greedy struct {
	left, sent int

	held []held
}

// held is how much memory a reader offers once so much was sent.
type held struct{ sent, buffer int }

func (g *greedy) Read(p []byte) (int, error) {
	if len(g.held) == 0 || cap(p) > g.held[len(g.held)-1].buffer {
		g.held = append(g.held, held{g.sent, cap(p)})
	}
	n := min(len(p), g.left)
	clear(p[:n])
	if g.left -= n; g.left == 0 {
		return n, io.EOF
	}
	g.sent += n
	return n, nil
}

// Uploads that stand still, each after a few bytes, fill the memory: what is
// kept for one that hasn't sent much is little.
func TestStalledUploadsHoldLittleMemory(t *testing.T) {
	t.Parallel()
	r := repository(t, open(t, t.TempDir(), filesystem.Options{}), "a")
	u := must(r.NewUpload(t.Context(), storage.UploadOptions{}))(t)
	g := &greedy{left: 2 << 20}
	must(u.Append(t.Context(), 0, g))(t)
	check(t, u.Close())
	last := held{}
	for _, h := range g.held {
		last = h
		if h.buffer > max(32<<10, h.sent) {
			t.Errorf("after %d bytes there are %d for more", h.sent, h.buffer)
		}
	}
	if last.buffer < 256<<10 {
		t.Errorf("a long upload is read by %d bytes", last.buffer)
	}
}
