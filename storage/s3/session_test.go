package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// begin begins a session at one replica.
func begin(t *testing.T, s *Store) string {
	t.Helper()
	u, err := s.Repository(app).NewUpload(t.Context(), storage.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	return u.ID()
}

// add is a PATCH at a replica.
func add(t *testing.T, s *Store, id string, offset int64, r io.Reader) error {
	t.Helper()
	u, err := s.Repository(app).ResumeUpload(t.Context(), id)
	if err != nil {
		return err
	}
	_, err = u.Append(t.Context(), offset, r)
	return errors.Join(err, u.Close())
}

// end is a PUT at a replica.
func end(t *testing.T, s *Store, id, content string) error {
	t.Helper()
	u, err := s.Repository(app).ResumeUpload(t.Context(), id)
	if err != nil {
		return err
	}
	_, err = u.Commit(t.Context(), digest.FromString(content))
	return errors.Join(err, u.Close())
}

func wantBlob(t *testing.T, s *Store, content string) {
	t.Helper()
	if err := verify(t.Context(), s.Repository(app), digest.FromString(content)); err != nil {
		t.Fatal(err)
	}
}

func isRangeError(err error) bool {
	var said *oci.Error
	return errors.As(err, &said) && said.HTTPStatus() == http.StatusRequestedRangeNotSatisfiable
}

// text is n bytes of which no part is like another.
func text(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%d ", i)
	}
	return b.String()[:n]
}

// Each request of an upload goes to another replica, in pieces that end anywhere.
func TestUploadAcrossReplicas(t *testing.T) {
	t.Parallel()
	f := smallParts()
	replicas := []*Store{openOn(t, f, Options{}), openOn(t, f, Options{}), openOn(t, f, Options{})}
	for _, sizes := range [][]int{
		{0},
		{1},
		{64 << 10},
		{64<<10 + 1},
		{1000, 2000},
		{40_000, 40_000, 40_000},
		{300_000},
		{300_000, 1},
		{1, 300_000},
		{64 << 10, 64 << 10},
		{30_000, 64 << 10, 33_000, 200_000, 1, 1, 50_000},
	} {
		t.Run(fmt.Sprint(sizes), func(t *testing.T) {
			t.Parallel()
			content, at := fmt.Sprint(sizes), 0
			for _, n := range sizes {
				at += n
			}
			content = (content + text(at))[:at]
			id := begin(t, replicas[0])
			at = 0
			for i, n := range sizes {
				if err := add(t, replicas[(i+1)%3], id, int64(at), strings.NewReader(content[at:at+n])); err != nil {
					t.Fatal(err)
				}
				at += n
			}
			if err := end(t, replicas[len(sizes)%3], id, content); err != nil {
				t.Fatal(err)
			}
			for _, s := range replicas {
				wantBlob(t, s, content)
			}
		})
	}
}

// pausing gives some bytes, says so, and goes on when it's told to.
type pausing struct {
	io.Reader

	reached, resume chan struct{}
}

func newPausing(before, after string) *pausing {
	p := &pausing{reached: make(chan struct{}), resume: make(chan struct{})}
	p.Reader = io.MultiReader(strings.NewReader(before), pause{p}, strings.NewReader(after))
	return p
}

type pause struct{ *pausing }

func (p pause) Read([]byte) (int, error) {
	close(p.reached)
	<-p.resume
	return 0, io.EOF
}

// A request that goes on with a session takes it from one at another replica
// that still runs, even if that one ends first.
func TestTakeOverAcrossReplicas(t *testing.T) {
	t.Parallel()
	f := smallParts()
	a, b := openOn(t, f, Options{}), openOn(t, f, Options{})
	for _, begun := range []int{5, 100_000, 200_000} {
		content := text(begun)
		id := begin(t, a)
		if err := add(t, a, id, 0, strings.NewReader(content)); err != nil {
			t.Fatal(err)
		}
		older, newer := newPausing("older", "older"), newPausing("newer", "newer")
		older2, newer2 := make(chan error, 1), make(chan error, 1)
		go func() { older2 <- add(t, a, id, int64(begun), older) }()
		<-older.reached
		go func() { newer2 <- add(t, b, id, int64(begun), newer) }()
		<-newer.reached
		close(older.resume)
		if err := <-older2; !isRangeError(err) {
			t.Fatalf("the older request ends with %v, want a range error", err)
		}
		close(newer.resume)
		if err := <-newer2; err != nil {
			t.Fatalf("the newer request: %v", err)
		}
		if err := end(t, a, id, content+"newernewer"); err != nil {
			t.Fatal(err)
		}
		wantBlob(t, b, content+"newernewer")
	}
}

// partless is a bucket whose parts beyond one number can't be stored for some time.
type partless struct {
	*fake

	from int
	off  chan struct{} // closed when it's over
}

func (p *partless) part(ctx context.Context, key, upload string, n int, body []byte) (string, error) {
	select {
	case <-p.off:
	default:
		if n >= p.from {
			return "", fmt.Errorf("%w: 500", errTemporary)
		}
	}
	return p.fake.part(ctx, key, upload, n, body)
}

// Of an upload whose parts can't be stored what could be stays, and the client can
// go on from there.
func TestPartsThatFail(t *testing.T) {
	t.Parallel()
	b := &partless{smallParts(), 3, make(chan struct{})}
	s := openOn(t, b, Options{RetryFor: 20 * time.Millisecond})
	content := text(500_000)
	id := begin(t, s)
	if err := add(t, s, id, 0, strings.NewReader(content)); err == nil {
		t.Fatal("it's acknowledged")
	}
	close(b.off)
	for _, s := range []*Store{s, openOn(t, b, Options{})} {
		u, err := s.Repository(app).ResumeUpload(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if u.Size() != 2*64<<10 {
			t.Fatalf("the session holds %d bytes, want two parts", u.Size())
		}
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := add(t, s, id, 2*64<<10, strings.NewReader(content[2*64<<10:])); err != nil {
		t.Fatal(err)
	}
	if err := end(t, s, id, content); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, s, content)
}

// All uploads share one budget, and finish however small it is.
func TestMemoryBudget(t *testing.T) {
	t.Parallel()
	s := openOn(t, smallParts(), Options{PartSize: 512 << 10, Memory: NewBudget(512 << 10), PartsAtOnce: 8})
	content := text(3 << 20)
	done := make(chan error)
	const uploads = 8
	for i := range uploads {
		go func() {
			mine := content[i:]
			_, err := storage.PutBlob(t.Context(), s.Repository(app), digest.FromString(mine), strings.NewReader(mine), storage.UploadOptions{})
			done <- err
		}()
	}
	for range uploads {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	for i := range uploads {
		wantBlob(t, s, content[i:])
	}
	wantMemory(t, s)
}

// noRests is a bucket that counts the small objects in which uploads keep what
// there's no memory for.
type noRests struct {
	*fake

	rests atomic.Int64
}

func (b *noRests) put(ctx context.Context, what putRequest) (string, error) {
	if strings.HasPrefix(what.Key, "data/") {
		b.rests.Add(1)
	}
	return b.fake.put(ctx, what)
}

// Uploads that wait for memory store nothing in small objects, and finish.
func TestUploadsAwaitMemory(t *testing.T) {
	t.Parallel()
	b := &noRests{fake: smallParts()}
	s := openOn(t, b, Options{PartSize: 512 << 10, Memory: NewBudget(512 << 10), PartsAtOnce: 8, AwaitMemory: true})
	content := text(3<<20 + 7)
	var uploading errgroup.Group
	for i := range 8 {
		uploading.Go(func() error {
			mine := content[i:] // its last part isn't an object of its own
			_, err := storage.PutBlob(t.Context(), s.Repository(app), digest.FromString(mine), strings.NewReader(mine), storage.UploadOptions{})
			return err
		})
	}
	if err := uploading.Wait(); err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		wantBlob(t, s, content[i:])
	}
	wantMemory(t, s)
	if n := b.rests.Load(); n > 0 {
		t.Errorf("there were %d small objects", n)
	}
}

// Who waits for memory doesn't wait any more when it's not wanted.
func TestAwaitingMemoryEnds(t *testing.T) {
	t.Parallel()
	s := openOn(t, smallParts(), Options{PartSize: 512 << 10, Memory: NewBudget(512 << 10), AwaitMemory: true})
	if !s.memory.filled.TryAcquire(s.memory.filled.most()) {
		t.Fatal("there's less memory")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err := storage.PutBlob(ctx, s.Repository(app), digest.FromString(text(1<<20)), strings.NewReader(text(1<<20)), storage.UploadOptions{})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("err = %v", err)
	}
}

// What a failed or cancelled upload had in memory is given back.
func TestMemoryIsGivenBack(t *testing.T) {
	t.Parallel()
	for _, memory := range []int64{1 << 20, 2 << 20} {
		memoryIsGivenBack(t, memory)
	}
}

// wantMemory fails unless all the memory is there.
func wantMemory(t *testing.T, s *Store) {
	t.Helper()
	for _, b := range []*share{s.memory.filled, s.memory.sent} {
		if !b.TryAcquire(b.most()) {
			t.Fatal("memory wasn't given back")
		}
		b.Release(b.most())
	}
}

func memoryIsGivenBack(t *testing.T, memory int64) {
	t.Helper()
	s := openOn(t, smallParts(), Options{PartSize: 1 << 20, Memory: NewBudget(memory)})
	content := text(900_000)
	for _, finish := range []func(u storage.Upload) error{
		func(u storage.Upload) error { return u.Cancel(t.Context()) },
		func(u storage.Upload) error { _, err := u.Commit(t.Context(), digest.FromString("other")); return err },
		func(u storage.Upload) error { _, err := u.Commit(t.Context(), digest.FromString(content)); return err },
		func(storage.Upload) error { return nil },
	} {
		u, err := s.Repository(app).NewUpload(t.Context(), storage.UploadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.Append(t.Context(), 0, strings.NewReader(content)); err != nil {
			t.Fatal(err)
		}
		_ = finish(u) // one of them fails
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
		wantMemory(t, s)
	}
}

// A session's ID is made by the store, and is of one repository.
func TestSessionID(t *testing.T) {
	t.Parallel()
	for _, a := range hashes() {
		id := newSessionID(app, a)
		got, ok := parseSessionID(app, id.text)
		if !ok || got.algorithm != a || id.began.Sub(got.began) >= time.Minute || got.began.After(id.began) {
			t.Fatalf("%+v is read as %+v, %v", id, got, ok)
		}
		if _, ok := parseSessionID(other, id.text); ok {
			t.Fatal("it's a session of another repository")
		}
		for i := range id.text {
			changed := []byte(id.text)
			changed[i] = 'A' + (changed[i]+1)%26
			if bytes.Equal(changed, []byte(id.text)) {
				continue
			}
			if _, ok := parseSessionID(app, string(changed)); ok {
				t.Fatalf("%s is one, and so is %s", id.text, changed)
			}
		}
	}
}

// Clients that stand still hold up nobody, however many they are.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	s := openOn(t, smallParts(), Options{PartSize: 1 << 20, Memory: NewBudget(3 << 20)})
	content := text(3 << 20)
	var done []chan error
	var slow []*pausing
	for range 5 {
		p, err := newPausing(content[:600_000], content[600_000:900_000]), make(chan error, 1)
		id := begin(t, s)
		go func() { err <- add(t, s, id, 0, p) }()
		<-p.reached
		slow, done = append(slow, p), append(done, err)
	}
	if s.memory.filled.TryAcquire(1 << 20) {
		t.Fatal("there's memory left")
	}
	if _, err := storage.PutBlob(t.Context(), s.Repository(app), digest.FromString(content), strings.NewReader(content), storage.UploadOptions{}); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, s, content)
	for i, p := range slow {
		close(p.resume)
		if err := <-done[i]; err != nil {
			t.Fatal(err)
		}
	}
	wantMemory(t, s)
}

// A session may have parts that are larger than this process has memory for.
func TestPartsOfAnother(t *testing.T) {
	t.Parallel()
	f := smallParts()
	a, b := openOn(t, f, Options{PartSize: 1 << 20}), openOn(t, f, Options{PartSize: 64 << 10, Memory: NewBudget(128 << 10)})
	content := text(3_000_000)
	id := begin(t, a)
	if err := add(t, a, id, 0, strings.NewReader(content[:1_500_000])); err != nil {
		t.Fatal(err)
	}
	if err := add(t, b, id, 1_500_000, strings.NewReader(content[1_500_000:])); err != nil {
		t.Fatal(err)
	}
	if err := end(t, b, id, content); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, a, content)
	wantMemory(t, a)
	wantMemory(t, b)
}
