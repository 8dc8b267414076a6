package filesystem_test

import (
	"errors"
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
	for _, h := range g.held {
		if h.buffer > max(32<<10, h.sent) {
			t.Errorf("after %d bytes there are %d for more", h.sent, h.buffer)
		}
	}
	if most := g.most(); most < 256<<10 {
		t.Errorf("a long upload is read by %d bytes", most)
	}
}

// most is the most memory that it was read into.
func (g *greedy) most() (most int) {
	for _, h := range g.held {
		most = max(most, h.buffer)
	}
	return most
}

// stopping is content that stops for a while when it has been read.
type stopping struct {
	*greedy

	stopped, goOn chan struct{}
}

func (s stopping) Read(p []byte) (int, error) {
	n, err := s.greedy.Read(p)
	if err != nil {
		s.stopped <- struct{}{}
		<-s.goOn
	}
	return n, err
}

// Large uploads are read by larger pieces, and only a few of them at a time. It isn't
// parallel: the few are the process's.
func TestFewLargeUploadsHoldMuchMemory(t *testing.T) { //nolint:paralleltest // see above
	const few, usual, large = 8, 256 << 10, 1 << 20
	r := repository(t, open(t, t.TempDir(), filesystem.Options{}), "a")
	upload := func(content io.Reader) error {
		u, err := r.NewUpload(t.Context(), storage.UploadOptions{})
		if err != nil {
			return err
		}
		_, err = u.Append(t.Context(), 0, content)
		return errors.Join(err, u.Close())
	}
	const size = 8 << 20
	stopped, goOn, done := make(chan struct{}), make(chan struct{}), make(chan error)
	for range few {
		go func() { done <- upload(stopping{&greedy{left: size}, stopped, goOn}) }()
	}
	for range few {
		<-stopped
	}
	late := &greedy{left: size}
	check(t, upload(late))
	if got := late.most(); got != usual {
		t.Errorf("one more is read by %d bytes, want %d", got, usual)
	}
	close(goOn)
	for range few {
		check(t, <-done)
	}
	next := &greedy{left: size}
	check(t, upload(next))
	if got := next.most(); got != large {
		t.Errorf("the next is read by %d bytes, want %d", got, large)
	}
}
