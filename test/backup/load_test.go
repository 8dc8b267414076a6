//go:build real

package backup

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/test/crowd"
	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/ledger"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/remote"
)

// logged is a repository whose index.json is so large that changes go to its log.
const logged = "team/large"

// repositories have some names that patterns of files fit as well.
var repositories = []string{logged, "app", "blobs", "index.json", "tmp-1", "team/tmp-log"}

// shared is a layer of every image.
var (
	shared     = image.RandomLayer(1, 80_000) // large enough to be shared
	sharedBlob = image.New("amd64", shared).Blobs[0]
)

// load is what clients do all the time: they push, move tags, and delete.
type load struct {
	*crowd.Crowd

	srv    *registry.Server
	ledger *ledger.Ledger
	idle   chan struct{} // a value if a log with a deletion is going to be folded
	quick  atomic.Int64  // how many turns have been begun in this round
}

// quickTurns is how many turns clients take in a round as fast as they can. After that
// they are slow, so that what is to be copied and checked stays small: else what a round
// adds grows with what the rounds before it have added.
const quickTurns = 2000

// round begins a round of copying.
func (l *load) round() { l.quick.Store(0) }

// rest is where a client waits before a turn.
func (l *load) rest(ctx context.Context) {
	if l.quick.Add(1) <= quickTurns {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(100 * time.Millisecond):
	}
}

// startLoad returns when every repository has something.
func startLoad(t *testing.T, srv *registry.Server) *load {
	t.Helper()
	l := &load{srv: srv, ledger: new(ledger.Ledger), idle: make(chan struct{})}
	fillLogged(t, srv, l.ledger)
	turns := make([]func(context.Context) error, 0, len(repositories))
	for i, name := range repositories {
		c := &client{load: l, repository: srv.Repository(name), seed: uint64(i+1) << 32, tags: make(map[string]digest.Digest)}
		if err := c.push(t.Context(), "first", c.image()); err != nil {
			t.Fatal(err)
		}
		turns = append(turns, c.turn)
	}
	l.Crowd = crowd.Start(t, turns...)
	return l
}

// fillLogged pushes one image under so many tags that index.json is large.
func fillLogged(t *testing.T, srv *registry.Server, l *ledger.Ledger) {
	t.Helper()
	c := image.New("amd64", shared)
	srv.Push(c, logged, "first")
	l.Begin(ledger.Tag{Repository: logged, Name: "first"}, c.Digest)()
	for n := 0; n < 1000; {
		query := make(url.Values)
		var acknowledge []func()
		for range 10 {
			tag := fmt.Sprintf("%s-%d", strings.Repeat("long", 25), n)
			query.Add("tag", tag)
			acknowledge = append(acknowledge, l.Begin(ledger.Tag{Repository: logged, Name: tag}, c.Digest))
			n++
		}
		m := c.Manifests[0]
		resp, err := srv.Do(t.Context(), http.MethodPut, "/v2/"+logged+"/manifests/"+m.Digest.String()+"?"+query.Encode(), bytes.NewReader(m.Bytes), "Content-Type", m.MediaType)
		if err == nil {
			err = resp.Body.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, done := range acknowledge {
			done()
		}
	}
	for size(t, filepath.Join(srv.Root, logged, "index.json")) < 256<<10 { // until the log is folded
		select {
		case <-t.Context().Done():
			t.Fatal("index.json doesn't grow")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func size(t *testing.T, name string) int64 {
	t.Helper()
	fi, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Size()
}

// client changes one repository, whose tags are its own.
type client struct {
	*load

	repository *remote.Repository
	turns      int
	seed       uint64
	images     []*image.Content // its last ones
	gone       *image.Content   // the one that was deleted last
	tags       map[string]digest.Digest
}

// turn pushes an image, and moves or deletes something.
func (c *client) turn(ctx context.Context) error {
	c.rest(ctx)
	n := c.turns
	c.turns++
	tag := fmt.Sprint("v", n%8)
	if err := c.push(ctx, tag, c.image()); err != nil {
		return err
	}
	switch n % 5 {
	case 0:
		return c.delete(ctx, tag)
	case 1:
		c.gone, c.images = c.images[0], c.images[1:]
		if err := c.delete(ctx, c.gone.Digest.String()); err != nil {
			return err
		}
		return c.pause(ctx, c.idle)
	case 2: // and here it is again
		if err := c.push(ctx, "latest", c.gone); err != nil {
			return err
		}
		return c.pause(ctx, nil)
	default:
		return c.push(ctx, "again", c.images[n%len(c.images)])
	}
}

// pause lets the log be folded, if that's where the repository's changes go. It
// tells idle if that's still to come.
func (c *client) pause(ctx context.Context, idle chan<- struct{}) error {
	if c.repository.Name != logged {
		return nil
	}
	log := filepath.Join(c.srv.Root, "_repos", strings.ReplaceAll(logged, "/", ","), "log")
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(log); err != nil {
			return nil
		}
		select {
		case idle <- struct{}{}:
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// image is one that nobody has pushed.
func (c *client) image() *image.Content {
	c.seed++
	img := image.New("amd64", shared, image.RandomLayer(c.seed, 10_000))
	c.images = append(c.images, img)
	if len(c.images) > 10 {
		c.images = c.images[1:]
	}
	return img
}

func (c *client) push(ctx context.Context, tag string, img *image.Content) error {
	acknowledge := c.begin(tag, img.Digest)
	if err := c.repository.Push(ctx, img, tag); err != nil {
		return err
	}
	acknowledge()
	return nil
}

// delete deletes a tag or a manifest, if it's there.
func (c *client) delete(ctx context.Context, ref string) error {
	var acknowledge []func()
	for tag, d := range c.tags {
		if tag == ref || d.String() == ref {
			acknowledge = append(acknowledge, c.begin(tag, ""))
		}
	}
	if err := c.repository.DeleteManifest(ctx, ref); err != nil && remote.Status(err) != http.StatusNotFound {
		return err
	}
	for _, done := range acknowledge {
		done()
	}
	return nil
}

func (c *client) begin(tag string, d digest.Digest) (acknowledge func()) {
	if c.tags[tag] = d; d == "" {
		delete(c.tags, tag)
	}
	return c.ledger.Begin(ledger.Tag{Repository: c.repository.Name, Name: tag}, d)
}
