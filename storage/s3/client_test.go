package s3

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// client asks for one thing after the other, each of any replica.
type client struct {
	*simulation

	ctx    context.Context //nolint:containedctx // it says whose calls they are
	random *rand.Rand
	number int
	made   int
	blobs  []digest.Digest // that are in team/app for good
	tags   map[string]digest.Digest
	unsure map[string][]digest.Digest // what tags may be since a change nobody answered
}

func newClient(s *simulation, number int, seed uint64) *client {
	return &client{
		simulation: s, number: number, random: rand.New(rand.NewPCG(seed, uint64(number)+10)),
		ctx:    context.WithValue(s.ctx, clientKey{}, fmt.Sprint("client ", number)),
		tags:   make(map[string]digest.Digest),
		unsure: make(map[string][]digest.Digest),
	}
}

// run does some things. Then what the client has changed is to be as it has left it.
func (c *client) run() {
	acts := []func(){c.push, c.push, c.upload, c.upload, c.race, c.fight, c.fight, c.untag, c.mount, c.drop, c.crash, c.sweep, c.sweep, c.snatch, c.snatch, c.mount, c.scrub, c.rot, c.twin, c.twin}
	for range 8 {
		acts[c.random.IntN(len(acts))]()
		time.Sleep(time.Duration(c.random.IntN(120)) * time.Millisecond)
	}
	for tag, d := range c.tags {
		c.owns("tag "+tag, func(ctx context.Context, s *Store) error {
			desc, err := s.Repository(app).Resolve(ctx, oci.TagRef(mustTag(tag)))
			if errors.Is(err, oci.ManifestUnknown) || errors.Is(err, oci.NameUnknown) {
				err = nil
			}
			for _, may := range append(c.unsure[tag], d) {
				if err == nil && desc.Digest == may {
					return nil
				}
			}
			return fmt.Errorf("it names %q, %w; want %q or one of %q", desc.Digest, err, d, c.unsure[tag])
		})
	}
}

func (c *client) owns(what string, is func(context.Context, *Store) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.owned = append(c.owned, ownership{what, is})
}

var (
	app   = mustName("team/app")
	other = mustName("other")
)

func mustName(s string) oci.Name {
	n, err := oci.ParseName(s)
	if err != nil {
		panic(err)
	}
	return n
}

func mustTag(s string) oci.Tag {
	t, err := oci.ParseTag(s)
	if err != nil {
		panic(err)
	}
	return t
}

// any returns one of the replicas.
func (c *client) any() *incarnation {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stores[c.random.IntN(len(c.stores))]
}

func (c *client) crash() {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := c.random.IntN(len(c.stores))
	c.stores[i].bucket.die()
	c.start(i)
}

// content is different each time, and of a size that may be in a record, in one object or in parts.
func (c *client) content() string {
	c.made++
	s := fmt.Sprintf("content %d of client %d ", c.made, c.number)
	return strings.Repeat(s, 1+[]int{0, 180, 1000}[c.random.IntN(3)])
}

// unanswered reports whether the outcome isn't known. An answer that says no is an outcome.
func unansweredErr(err error) bool {
	var said *oci.Error
	return err != nil && !errors.As(err, &said)
}

// push pushes an image of one new blob under a tag of the client's own.
func (c *client) push() {
	content := c.content()
	d := digest.FromString(content)
	_, err := storage.PutBlob(c.ctx, c.any().Repository(app), d, strings.NewReader(content), storage.UploadOptions{})
	if err != nil {
		return
	}
	m := c.image(d)
	tag := fmt.Sprintf("c%d-%d", c.number, c.random.IntN(2))
	err = storage.PutManifest(c.ctx, c.any().Repository(app), m, storage.PutOptions{Tags: []oci.Tag{mustTag(tag)}})
	c.tagged(tag, m.Digest, err)
	if err == nil {
		c.holds(d, content)
		c.holds(m.Digest, string(m.Raw))
	}
}

// tagged notes what a change of a tag has come to.
func (c *client) tagged(tag string, d digest.Digest, err error) {
	switch {
	case err == nil:
		c.tags[tag] = d
		delete(c.unsure, tag)
	case unansweredErr(err):
		if _, ok := c.tags[tag]; !ok {
			c.tags[tag] = ""
		}
		c.unsure[tag] = append(c.unsure[tag], d)
	default:
		c.errorf("client %d: change tag %s: %w", c.number, tag, err)
	}
}

func (c *client) image(blobs ...digest.Digest) oci.Manifest {
	c.made++
	var layers []string
	for _, d := range blobs {
		layers = append(layers, fmt.Sprintf(`{"mediaType":"application/x.layer","digest":%q,"size":1}`, d))
	}
	raw := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/x.config","digest":%q,"size":1},
		"layers":[%s],"annotations":{"n":"%d of %d"}}`, oci.MediaTypeImageManifest, blobs[0], strings.Join(layers, ","), c.made, c.number)
	m, err := oci.ParseManifest(oci.MediaTypeImageManifest, []byte(raw), digest.SHA256)
	if err != nil {
		c.errorf("manifest: %w", err)
	}
	return m
}

// holds notes that a blob was acknowledged, and is needed or nobody's to remove.
func (c *client) holds(d digest.Digest, content string) {
	c.blobs = append(c.blobs, d)
	c.owns(fmt.Sprintf("blob %q", content[:min(30, len(content))]), func(ctx context.Context, s *Store) error {
		return verify(ctx, s.Repository(app), d)
	})
}

// grace is how long what nobody uses stays.
const grace = 100 * time.Millisecond

// sweep removes what nobody has used for a grace.
func (c *client) sweep() {
	for _, err := range c.any().Sweep(c.ctx, storage.SweepOptions{Before: time.Now().Add(-grace)}) {
		if err != nil && !unansweredErr(err) {
			c.errorf("sweep: %w", err)
		}
	}
}

// snatch mounts a blob while it's dropped and swept.
func (c *client) snatch() {
	content := c.content()
	d := digest.FromString(content)
	if _, err := storage.PutBlob(c.ctx, c.any().Repository(app), d, strings.NewReader(content), storage.UploadOptions{}); err != nil {
		return
	}
	time.Sleep(grace + time.Millisecond)
	dropper, sweeper, mounter := c.any(), c.any(), c.any()
	tries := 1 + c.random.IntN(3)
	var busy sync.WaitGroup
	busy.Go(func() {
		_ = storage.DeleteBlob(c.ctx, dropper.Repository(app), d, "") // it may have died
		for range 2 {
			for _, err := range sweeper.Sweep(c.ctx, storage.SweepOptions{Before: time.Now().Add(-grace)}) {
				_ = err // it may have died, too
			}
			time.Sleep(grace + time.Millisecond)
		}
	})
	for range tries {
		if _, err := mounter.Repository(other).MountBlob(c.ctx, d, app); err == nil {
			c.owns("a snatched blob", func(ctx context.Context, s *Store) error { return verify(ctx, s.Repository(other), d) })
			break
		}
	}
	busy.Wait()
}

// twin pushes one content to two repositories, as objects of their own. Somebody
// moves the one to the other's object while that's dropped and swept.
func (c *client) twin() {
	content := c.content() + strings.Repeat(".", maxInline)
	d := digest.FromString(content)
	var at [2]string
	for i, name := range []oci.Name{app, other} {
		s := c.any()
		if _, err := storage.PutBlob(c.ctx, s.Repository(name), d, strings.NewReader(content), storage.UploadOptions{}); err != nil {
			return
		}
		known := s.cache.acquire(s.Store, name)
		now, _, err := known.current(c.ctx)
		s.cache.release(known)
		if err != nil || now.find(d) == nil {
			return // another replica has swept what this one knows of
		}
		at[i] = now.find(d).ID
	}
	time.Sleep(grace + time.Millisecond)
	dropper, sweeper, mover := c.any(), c.any(), c.any()
	rounds, late := 1+c.random.IntN(3), time.Duration(c.random.IntN(4))*grace
	var busy sync.WaitGroup
	busy.Go(func() {
		_ = storage.DeleteBlob(c.ctx, dropper.Repository(other), d, "") // it may have died
		for range rounds {
			for _, err := range sweeper.Sweep(c.ctx, storage.SweepOptions{Before: time.Now().Add(-grace)}) {
				_ = err // likewise
			}
			time.Sleep(grace + time.Millisecond)
		}
	})
	busy.Go(func() {
		time.Sleep(late)
		_ = mover.move(c.ctx, app, map[string]string{at[0]: at[1]}, make(proofs), atOnce) // likewise
	})
	busy.Wait()
	c.owns("a twin", func(ctx context.Context, s *Store) error { return verify(ctx, s.Repository(app), d) })
}

// untag removes a tag of the client's own.
func (c *client) untag() {
	tag := fmt.Sprintf("c%d-%d", c.number, c.random.IntN(2))
	if len(c.unsure[tag]) > 0 || c.tags[tag] == "" {
		return
	}
	err := storage.DeleteManifest(c.ctx, c.any().Repository(app), oci.TagRef(mustTag(tag)), "")
	c.tagged(tag, "", err)
}

// drop pushes a blob and removes it.
func (c *client) drop() {
	content := c.content()
	d := digest.FromString(content)
	if _, err := storage.PutBlob(c.ctx, c.any().Repository(app), d, strings.NewReader(content), storage.UploadOptions{}); err != nil {
		return
	}
	if err := storage.DeleteBlob(c.ctx, c.any().Repository(app), d, ""); err != nil {
		return
	}
	c.owns("a dropped blob", func(ctx context.Context, s *Store) error {
		if _, err := s.Repository(app).StatBlob(ctx, d); !errors.Is(err, oci.BlobUnknown) {
			return fmt.Errorf("it's there, or %w", err)
		}
		return nil
	})
}

// mount mounts a blob elsewhere.
func (c *client) mount() {
	if len(c.blobs) == 0 {
		return
	}
	d := c.blobs[c.random.IntN(len(c.blobs))]
	if _, err := c.any().Repository(other).MountBlob(c.ctx, d, app); err != nil {
		if !unansweredErr(err) {
			c.errorf("mount %s: %w", d, err)
		}
		return
	}
	c.owns("a mounted blob", func(ctx context.Context, s *Store) error { return verify(ctx, s.Repository(other), d) })
}

// scrub has a blob looked at that is right.
func (c *client) scrub() {
	if len(c.blobs) == 0 {
		return
	}
	d := c.blobs[c.random.IntN(len(c.blobs))]
	outcome, err := c.any().Repository(app).(storage.Quarantiner).Quarantine(c.ctx, d)
	if outcome == storage.Taken || err != nil && !unansweredErr(err) {
		c.errorf("a right blob is %s, %w", outcome, err)
	}
}

// rot damages a blob, has it looked at, and pushes it again.
func (c *client) rot() {
	content := c.content()
	d := digest.FromString(content)
	push := func() error {
		_, err := storage.PutBlob(c.ctx, c.any().Repository(app), d, strings.NewReader(content), storage.UploadOptions{})
		return err
	}
	bad := strings.ToUpper(content)
	if push() != nil || !c.alter(content, bad) {
		return
	}
	outcome, err := c.any().Repository(app).(storage.Quarantiner).Quarantine(c.ctx, d)
	if err != nil {
		c.alter(bad, content)
		return
	}
	// A write that got no answer may have come through since, which heals it.
	if outcome == storage.Sound || push() == nil {
		c.owns("a blob that was bad", func(ctx context.Context, s *Store) error { return verify(ctx, s.Repository(app), d) })
	}
}

// alter changes the content of each object that has this one; false if there's none.
func (c *client) alter(from, to string) (done bool) {
	c.fake.mu.Lock()
	defer c.fake.mu.Unlock()
	for key, o := range c.objects {
		if strings.HasPrefix(key, "data/") && string(o.body) == from {
			c.objects[key], done = c.object([]byte(to)), true
		}
	}
	return done
}

// fight does something with the tag that all want.
func (c *client) fight() {
	r := c.any().Repository(app)
	want := mustTag("wanted")
	m := c.bare()
	in := registerInput{do: []string{"create", "create", "put", "remove", "read"}[c.random.IntN(5)], value: m.Digest}
	opts := storage.PutOptions{Tags: []oci.Tag{want}}
	called := c.tick()
	var out registerOutput
	var err error
	switch in.do {
	case "create":
		opts.IfNoneMatch = []string{"*"}
		err = storage.PutManifest(c.ctx, r, m, opts)
	case "put":
		err = storage.PutManifest(c.ctx, r, m, opts)
	case "remove":
		err = storage.DeleteManifest(c.ctx, r, oci.TagRef(want), "")
	case "read":
		var desc oci.Descriptor
		desc, err = r.Resolve(c.ctx, oci.TagRef(want))
		out.value = desc.Digest
		if errors.Is(err, oci.NameUnknown) || errors.Is(err, oci.ManifestUnknown) {
			err = nil
		}
	}
	out.unknown, out.failed = unansweredErr(err), err != nil
	op := porcupine.Operation{ClientId: c.number, Input: in, Call: called, Output: out, Return: c.tick()}
	if out.unknown {
		op.Return = 1 << 60
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.history = append(c.history, op)
}

// bare makes a manifest that requires nothing.
func (c *client) bare() oci.Manifest {
	c.made++
	raw := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[],"annotations":{"n":"%d of %d"}}`,
		oci.MediaTypeImageIndex, c.made, c.number)
	m, err := oci.ParseManifest(oci.MediaTypeImageIndex, []byte(raw), digest.SHA256)
	if err != nil {
		c.errorf("manifest: %w", err)
	}
	return m
}

// upload sends a blob in pieces, each to any replica, and goes on after failures
// where the session is said to stand.
func (c *client) upload() {
	content := c.content()
	u, err := c.any().Repository(app).NewUpload(c.ctx, storage.UploadOptions{})
	if err != nil {
		return
	}
	id, acknowledged, unsure := u.ID(), int64(0), false // unsure: it may be committed
	_ = u.Close()
	touched := time.Now()
	for range 12 {
		r := c.any().Repository(app)
		u, err := r.ResumeUpload(c.ctx, id)
		if errors.Is(err, oci.BlobUploadUnknown) {
			if acknowledged > 0 && !unsure && time.Since(touched) < grace {
				c.errorf("client %d: a session of %d bytes: %w", c.number, acknowledged, err)
			}
			return
		}
		if err != nil {
			continue
		}
		at := u.Size()
		if at < acknowledged {
			c.errorf("a session of %d bytes has %d", acknowledged, at)
		}
		if rest := content[at:]; len(rest) > 0 {
			n := 1 + c.random.IntN(len(rest))
			_, err = u.Append(c.ctx, at, strings.NewReader(rest[:n]))
			if err = errors.Join(err, u.Close()); err == nil {
				acknowledged, touched = at+int64(n), time.Now()
			}
			continue
		}
		_, err = u.Commit(c.ctx, digest.FromString(content))
		_ = u.Close()
		if err == nil {
			c.holds(digest.FromString(content), content)
			return
		}
		if unsure = true; errors.Is(err, oci.DigestInvalid) {
			c.errorf("client %d: commit: %w", c.number, err)
			return
		}
	}
}

// race lets two requests claim the beginning of one session, each with its own
// content. What one of them was told is what the session holds.
func (c *client) race() {
	u, err := c.any().Repository(app).NewUpload(c.ctx, storage.UploadOptions{})
	if err != nil {
		return
	}
	id, begun := u.ID(), ""
	_ = u.Close()
	if c.random.IntN(2) == 0 { // somewhere in the middle, where others know of it
		begun = c.content()
		if c.claim(c.any(), id, "", begun) != nil {
			return
		}
	}
	var errs [2]error
	var contents [2]string
	claim, commit := c.claim, c.random.IntN(2) == 0
	if commit {
		claim = c.put
	}
	var racing sync.WaitGroup
	for i := range errs {
		contents[i] = c.content()
		at := c.any()
		racing.Go(func() { errs[i] = claim(at, id, begun, contents[i]) })
	}
	racing.Wait()
	if commit {
		for i := range errs {
			if errs[i] == nil {
				c.holds(digest.FromString(begun+contents[i]), begun+contents[i])
			}
		}
		return
	}
	for i := range errs {
		if errs[i] == nil && errs[1-i] == nil {
			c.errorf("client %d: both claimed the session", c.number)
			return
		}
		if errs[i] == nil && !unansweredErr(errs[1-i]) {
			c.finish(id, begun+contents[i])
		}
	}
}

// claim appends to a session that is to hold begun.
func (c *client) claim(at *incarnation, id, begun, content string) error {
	u, err := at.Repository(app).ResumeUpload(c.ctx, id)
	if err != nil {
		return err
	}
	_, err = u.Append(c.ctx, int64(len(begun)), strings.NewReader(content))
	return errors.Join(err, u.Close())
}

// put is claim by a request that brings the end of the content.
func (c *client) put(at *incarnation, id, begun, content string) error {
	u, err := at.Repository(app).ResumeUpload(c.ctx, id)
	if err != nil {
		return err
	}
	_, err = u.Append(c.ctx, int64(len(begun)), strings.NewReader(content))
	if err == nil {
		_, err = u.Commit(c.ctx, digest.FromString(begun+content))
	}
	_ = u.Close() // it has ended, or failed
	return err
}

// finish commits a session that holds content.
func (c *client) finish(id, content string) {
	u, err := c.any().Repository(app).ResumeUpload(c.ctx, id)
	if err == nil && u.Size() != int64(len(content)) {
		err = oci.Errorf(oci.DigestInvalid, "it holds %d bytes, not %d", u.Size(), len(content))
	}
	if err == nil {
		_, err = u.Commit(c.ctx, digest.FromString(content))
		err = errors.Join(err, u.Close())
	}
	if err == nil {
		c.holds(digest.FromString(content), content)
	} else if !unansweredErr(err) {
		c.errorf("client %d: the session that it claimed: %w", c.number, err)
	}
}
