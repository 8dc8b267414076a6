package handler_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-oci/oci-registry/handler"
)

// Attacks by clients that take their time. How long they may take is for the
// server to say that the Handler is in; what they hold meanwhile is ours.

// Hundreds of requests for a large blob whose answers nobody reads fill the
// memory: what is kept for one that hasn't been sent much is little.
func TestUnreadAnswersHoldLittleMemory(t *testing.T) {
	t.Parallel()
	content := noise(2 << 20)
	store, d := newFileStore(t, content)
	c := newClient(t, handler.Options{Store: store})
	r := newRequest(t, "GET", blobPath("a", d), nil, 0)
	r.ProtoMajor, r.TLS = 2, &tls.ConnectionState{HandshakeComplete: true}
	w := &sizes{ResponseRecorder: httptest.NewRecorder()}
	c.h.ServeHTTP(w, r)
	if !bytes.Equal(w.Body.Bytes(), content) {
		t.Fatalf("%d bytes, want %d", w.Body.Len(), len(content))
	}
	sent, largest := 0, 0
	for _, n := range w.writes {
		if n > max(64<<10, sent) {
			t.Errorf("after %d bytes %d are written at once", sent, n)
		}
		sent, largest = sent+n, max(largest, n)
	}
	if largest < 256<<10 {
		t.Errorf("a large blob is written by %d bytes", largest)
	}
}

// sizes notes how much is written at once.
type sizes struct {
	*httptest.ResponseRecorder

	writes []int
}

func (s *sizes) Write(p []byte) (int, error) {
	s.writes = append(s.writes, cap(p))
	return s.ResponseRecorder.Write(p)
}

// stall is a body that has a few bytes, and then nothing until it's released.
type stall struct {
	began   sync.Once
	waiting *sync.WaitGroup
	release <-chan struct{}
	sent    bool
}

func (s *stall) Read(p []byte) (int, error) {
	if !s.sent {
		s.sent = true
		return copy(p, "abc"), nil
	}
	s.began.Do(s.waiting.Done)
	<-s.release
	return 0, io.ErrUnexpectedEOF
}

func (s *stall) Close() error { return nil }

// Slowloris: two hundred uploads stand still in the midst of their bodies. All
// others go on, in the same repository and with the same session too, and there
// is next to nothing that they hold.
func TestStalledUploadsHinderNobody(t *testing.T) { //nolint:paralleltest // it measures the heap
	const clients, most = 200, 96 << 10 // bytes for each of them
	c := newClient(t, handler.Options{})
	var waiting, done sync.WaitGroup
	release := make(chan struct{})
	end := sync.OnceFunc(func() {
		close(release)
		done.Wait()
	})
	t.Cleanup(end)
	before := heap()
	for range clients {
		c.run(exchange{method: "POST", target: "/v2/a/blobs/uploads/", status: 202})
		waiting.Add(1)
		r := newRequest(t, "PATCH", c.location, &stall{waiting: &waiting, release: release}, 1<<30)
		done.Go(func() {
			w := httptest.NewRecorder()
			if c.h.ServeHTTP(w, r); w.Code != http.StatusBadRequest {
				t.Errorf("a body that broke off: %d", w.Code)
			}
		})
	}
	waiting.Wait()
	each := (heap() - before) / clients
	t.Logf("a stalled upload holds %d bytes", each)
	if each > most {
		t.Errorf("want %d at most", most)
	}
	session := c.location
	c.pushImage("a", "")
	c.run(exchange{method: "GET", target: manifestPath("a", "v1"), status: 200})
	c.run(exchange{method: "GET", target: session, status: 204, want: []string{"Range", "*"}})
	c.run(exchange{method: "DELETE", target: session, status: 204})
	end()
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A request that was stalled goes on after another one has taken its session
// over, and adds what it likes to what that one commits.
func TestStalledUploadAddsNothingLater(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	c.run(exchange{method: "POST", target: uploads, status: 202})
	pr, pw := io.Pipe()
	slow := newRequest(t, "PATCH", c.location, pr, -1)
	w := httptest.NewRecorder()
	var done sync.WaitGroup
	done.Go(func() {
		c.h.ServeHTTP(w, slow)
		_ = pr.Close() // so that nobody writes to it in vain
	})
	if _, err := io.WriteString(pw, "evil"); err != nil { // read, so the request has begun
		t.Fatal(err)
	}
	c.run(exchange{method: "PATCH", target: "$", body: layer, header: []string{"Content-Range", "0-15"}, status: 202})
	for range 3 {
		_, _ = io.WriteString(pw, strings.Repeat("evil", 100_000)) // it may have given up
	}
	if err := pw.Close(); err != nil {
		t.Fatal(err)
	}
	done.Wait()
	c.run(exchange{method: "PUT", target: "$?digest=" + layerDigest.String(), status: 201})
	c.run(exchange{method: "GET", target: blobPath("a/b", layerDigest), status: 200, is: layer})
	if w.Code != http.StatusRequestedRangeNotSatisfiable {
		t.Errorf("the request that lost its session: %d", w.Code)
	}
}

// A session's ID is guessed: there are more than can be tried, and one that is
// nearly right is as wrong as any.
func TestGuessedSessions(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	seen := make(map[string]bool)
	for range 1000 {
		c.run(exchange{method: "POST", target: uploads, status: 202})
		id := c.location[strings.LastIndexByte(c.location, '/')+1:]
		if seen[id] || len(id) < 26 { // of 32 letters: 128 bits
			t.Fatalf("the ID %q", id)
		}
		seen[id] = true
	}
	id := c.location[strings.LastIndexByte(c.location, '/')+1:]
	for i := range id {
		for _, near := range []string{id[:i] + "A" + id[i+1:], id[:i] + id[i+1:], id[:i] + strings.ToLower(id[i:i+1]) + id[i+1:]} {
			if near == id {
				continue
			}
			if got := c.send("GET", uploads+near, ""); got.status != 404 && got.status != 400 {
				t.Fatalf("%s instead of %s: %d", near, id, got.status)
			}
		}
	}
}
