package s3

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// mortal is a bucket as a process sees it that dies after some calls. The last
// one is done, or it isn't; nobody hears of it.
type mortal struct {
	bucket

	left int
	done bool
	dead bool
}

func die[T any](m *mortal, call func() (T, error)) (T, error) {
	var zero T
	if m.left == 0 {
		if !m.dead && m.done {
			_, _ = call()
		}
		m.dead = true
		return zero, errDead
	}
	m.left--
	return call()
}

func (m *mortal) get(ctx context.Context, what getRequest) (*gotten, error) {
	return die(m, func() (*gotten, error) { return m.bucket.get(ctx, what) })
}

func (m *mortal) stat(ctx context.Context, key string) (listed, error) {
	return die(m, func() (listed, error) { return m.bucket.stat(ctx, key) })
}

func (m *mortal) list(ctx context.Context, prefix, after string) (page []listed, more bool, err error) {
	page, err = die(m, func() (p []listed, err error) {
		p, more, err = m.bucket.list(ctx, prefix, after)
		return p, err
	})
	return page, more, err
}

func (m *mortal) put(ctx context.Context, what putRequest) (string, error) {
	return die(m, func() (string, error) { return m.bucket.put(ctx, what) })
}

func (m *mortal) remove(ctx context.Context, keys ...string) error {
	_, err := die(m, func() (none, error) { return none{}, m.bucket.remove(ctx, keys...) })
	return err
}

func (m *mortal) begin(ctx context.Context, key string) (string, error) {
	return die(m, func() (string, error) { return m.bucket.begin(ctx, key) })
}

func (m *mortal) part(ctx context.Context, key, upload string, n int, body []byte) (string, error) {
	return die(m, func() (string, error) { return m.bucket.part(ctx, key, upload, n, body) })
}

func (m *mortal) complete(ctx context.Context, key, upload string, parts []part) error {
	_, err := die(m, func() (none, error) { return none{}, m.bucket.complete(ctx, key, upload, parts) })
	return err
}

func (m *mortal) abort(ctx context.Context, key, upload string) error {
	_, err := die(m, func() (none, error) { return none{}, m.bucket.abort(ctx, key, upload) })
	return err
}

// script is what a process does until it dies. After each of its steps what is
// noted holds for good.
type script struct {
	t     *testing.T
	s     *Store
	blobs map[string]bool // contents, and whether they're there
	tags  map[string]digest.Digest
}

// TestCrash stops a process after its calls, each in a long run. What was
// acknowledged is there, and the next process can do it all again.
func TestCrash(t *testing.T) {
	t.Parallel()
	stride := 3
	switch {
	case os.Getenv("OCI_SOAK") == "1":
		stride = 1
	case testing.Short():
		stride = 9
	}
	for i, done := range []bool{false, true} {
		for n := i; ; n += stride {
			f := smallParts()
			m := &mortal{bucket: f, left: n, done: done}
			c := &script{t: t, s: dense(t, m), blobs: make(map[string]bool), tags: make(map[string]digest.Digest)}
			err := c.run()
			if err != nil && !errors.Is(err, errDead) {
				t.Fatalf("before %d calls: %v", n, err)
			}
			c.s = dense(t, f)
			c.audit(n)
			if again := c.run(); again != nil {
				t.Fatalf("after a crash at call %d: %v", n, again)
			}
			c.audit(n)
			if err == nil {
				t.Logf("the script takes up to %d calls", n)
				break
			}
		}
	}
}

func dense(t *testing.T, b bucket) *Store {
	t.Helper()
	s := openOn(t, b, Options{PartsAtOnce: 1, RetryFor: time.Nanosecond})
	s.limits.tail, s.limits.segments, s.limits.inline = 1<<10, 2<<10, 1<<10
	return s
}

func (c *script) run() error {
	large, small := text(300_000), "small"
	layer := text(5000)
	steps := []func() error{
		func() error { return c.patch(large) },
		func() error { return c.push(app, layer) },
		func() error { return c.push(app, small) },
		func() error { return c.tag(imageOf(c.t, "1", digest.FromString(layer)), "v1", "latest") },
		func() error { return c.mount(layer) },
		func() error { return c.tag(imageOf(c.t, "2", digest.FromString(large)), "v2", "latest") },
		func() error { return c.drop(small) },
		func() error { return c.tag(imageOf(c.t, text(maxInline), digest.FromString(large)), "v3") },
		func() error { return c.untag("v1") },
		func() error { return c.push(other, large) },
		c.sweep, c.sweep, c.sweep,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// sweep removes what isn't needed, however young it is: nobody else is at work.
func (c *script) sweep() error {
	var errs []error
	for _, err := range c.s.Sweep(c.t.Context(), storage.SweepOptions{Before: time.Now().Add(time.Hour)}) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c *script) push(to oci.Name, content string) error {
	_, err := storage.PutBlob(c.t.Context(), c.s.Repository(to), digest.FromString(content), strings.NewReader(content), storage.UploadOptions{})
	if err == nil {
		c.blobs[content] = true
	}
	return err
}

func (c *script) patch(content string) error {
	u, err := c.s.Repository(app).NewUpload(c.t.Context(), storage.UploadOptions{})
	if err != nil {
		return err
	}
	id, third := u.ID(), len(content)/3
	if err = u.Close(); err != nil {
		return err
	}
	for at := 0; at < len(content); at += third {
		if u, err = c.s.Repository(app).ResumeUpload(c.t.Context(), id); err != nil {
			return err
		}
		_, err = u.Append(c.t.Context(), int64(at), strings.NewReader(content[at:min(at+third, len(content))]))
		if err = errors.Join(err, u.Close()); err != nil {
			return err
		}
	}
	if u, err = c.s.Repository(app).ResumeUpload(c.t.Context(), id); err != nil {
		return err
	}
	_, err = u.Commit(c.t.Context(), digest.FromString(content))
	if err == nil {
		c.blobs[content] = true
	}
	return errors.Join(err, u.Close())
}

func (c *script) tag(m oci.Manifest, tags ...string) error {
	var opts storage.PutOptions
	for _, t := range tags {
		delete(c.tags, t)
		opts.Tags = append(opts.Tags, mustTag(t))
	}
	err := storage.PutManifest(c.t.Context(), c.s.Repository(app), m, opts)
	for _, t := range tags {
		if err == nil {
			c.tags[t] = m.Digest
		}
	}
	return err
}

func (c *script) untag(tag string) error {
	delete(c.tags, tag)
	err := storage.DeleteManifest(c.t.Context(), c.s.Repository(app), oci.TagRef(mustTag(tag)), "")
	if err == nil {
		c.tags[tag] = ""
	}
	return err
}

func (c *script) mount(content string) error {
	_, err := c.s.Repository(other).MountBlob(c.t.Context(), digest.FromString(content), app)
	return err
}

func (c *script) drop(content string) error {
	delete(c.blobs, content)
	err := storage.DeleteBlob(c.t.Context(), c.s.Repository(app), digest.FromString(content), "")
	if err == nil {
		c.blobs[content] = false
	}
	return err
}

func (c *script) audit(n int) {
	c.t.Helper()
	for content, there := range c.blobs {
		err := verify(c.t.Context(), c.s.Repository(app), digest.FromString(content))
		if there && err != nil || !there && !errors.Is(err, oci.BlobUnknown) {
			c.t.Fatalf("after a crash at call %d: blob of %d bytes: %v", n, len(content), err)
		}
	}
	for tag, d := range c.tags {
		desc, err := c.s.Repository(app).Resolve(c.t.Context(), oci.TagRef(mustTag(tag)))
		if d == "" && errors.Is(err, oci.ManifestUnknown) {
			continue
		}
		if err != nil || desc.Digest != d {
			c.t.Fatalf("after a crash at call %d: %s is %s, %v; want %s", n, tag, desc.Digest, err, d)
		}
	}
	for name, err := range c.s.Repositories(c.t.Context(), oci.Name{}) {
		if err == nil {
			err = whole(c.t.Context(), c.s, name)
		}
		if err != nil {
			c.t.Fatalf("after a crash at call %d: %s: %v", n, name, err)
		}
	}
}
