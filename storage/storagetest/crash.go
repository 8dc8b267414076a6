package storagetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// Crash pushes, moves and deletes, once for every step that the store takes in
// its file system on the way, and stops the world at that step as a killed
// process stops. However early that is, a store opened afterwards holds what
// was acknowledged, of what was under way all or nothing, and nothing whose
// bytes aren't there; and it can be pushed to.
//
// It doesn't model lost power: what was written stays, synced or not.
func Crash(t *testing.T, open func(vfs.FS) (storage.Store, error)) {
	t.Helper()
	c := crash{open: open, script: script(t)}
	for first := range int64(strides) {
		t.Run(fmt.Sprintf("every %dth step from %d on", strides, first), func(t *testing.T) {
			t.Parallel()
			steps := first
			for !c.survives(t, steps) {
				steps += strides
			}
			t.Logf("the script takes less than %d steps", steps+1)
		})
	}
}

// strides is how many runs of the script go on side by side.
const strides = 8

type crash struct {
	open   func(vfs.FS) (storage.Store, error)
	script []act
}

// act is one thing that a client asks for, and what it makes of the names.
type act struct {
	name string
	do   func(ctx context.Context, s storage.Store) error
	then func(names)
}

// names are the manifests of each repository: tags and digests, as Resolve takes
// them, and the digest that each stands for.
type names map[string]digest.Digest

// put notes a manifest and its tags.
func (n names) put(m oci.Manifest, tags ...string) {
	n[m.Digest.String()] = m.Digest
	for _, t := range tags {
		n[t] = m.Digest
	}
}

// remove forgets a manifest and its tags.
func (n names) remove(m oci.Manifest) {
	maps.DeleteFunc(n, func(_ string, d digest.Digest) bool { return d == m.Digest })
}

// crashing is the repository of the script. It lies inside another one's name.
const crashing = "a/b"

// script is what is done until the world stops. The layer is large enough for
// a store to share it between repositories.
func script(t testing.TB) []act {
	t.Helper()
	layer := strings.Repeat("layer", 1000)
	v1 := image(t, "v1", digest.FromString(layer), digest.FromString("v1"))
	v2 := image(t, "v2", digest.FromString(layer), digest.FromString("v2"))
	sig, top := referrer(t, "sig", v1.Digest), imageIndex(t, v1, v2)
	return []act{
		pushBlobAct(t, crashing, layer),
		pushBlobAct(t, crashing, "v1"),
		putAct(t, v1, "v1", "latest"),
		pushBlobAct(t, crashing, "v2"),
		pushBlobAct(t, "other", layer),
		putAct(t, v2, "v2", "latest"), // moves latest
		putAct(t, sig),
		putAct(t, top, "all"),
		reopenAct(),
		deleteAct(t, top),
		deleteAct(t, v1),
		dropAct(t, "v1"),
		untagAct(t, "v2"),
		putAct(t, v2, "v3"),
	}
}

func pushBlobAct(t testing.TB, repository, content string) act {
	t.Helper()
	n, d := name(t, repository), digest.FromString(content)
	return act{"push the blob " + content[:2] + " to " + repository, func(ctx context.Context, s storage.Store) error {
		_, err := storage.PutBlob(ctx, s.Repository(n), d, strings.NewReader(content), storage.UploadOptions{})
		return err
	}, func(names) {}}
}

func putAct(t testing.TB, m oci.Manifest, tags ...string) act {
	t.Helper()
	n, opts := name(t, crashing), storage.PutOptions{Tags: tagList(t, tags...), By: "alice"}
	return act{fmt.Sprint("push ", m.Annotations["title"], tags), func(ctx context.Context, s storage.Store) error {
		return storage.PutManifest(ctx, s.Repository(n), m, opts)
	}, func(n names) { n.put(m, tags...) }}
}

func deleteAct(t testing.TB, m oci.Manifest) act {
	t.Helper()
	n := name(t, crashing)
	return act{"delete " + m.Annotations["title"], func(ctx context.Context, s storage.Store) error {
		return storage.DeleteManifest(ctx, s.Repository(n), oci.DigestRef(m.Digest), "alice")
	}, func(n names) { n.remove(m) }}
}

func untagAct(t testing.TB, v string) act {
	t.Helper()
	n, r := name(t, crashing), ref(t, v)
	return act{"untag " + v, func(ctx context.Context, s storage.Store) error {
		return storage.DeleteManifest(ctx, s.Repository(n), r, "alice")
	}, func(n names) { delete(n, v) }}
}

func dropAct(t testing.TB, content string) act {
	t.Helper()
	n, d := name(t, crashing), digest.FromString(content)
	return act{"delete the blob " + content, func(ctx context.Context, s storage.Store) error {
		return storage.DeleteBlob(ctx, s.Repository(n), d, "alice")
	}, func(names) {}}
}

// reopenAct stands for closing the store and opening it again, which play does.
func reopenAct() act { return act{name: "reopen", then: func(names) {}} }

// survives plays the script with so many steps allowed, and looks at what is
// there afterwards. It reports whether that's the end: the script came to its
// own, or the test has failed.
func (c crash) survives(t testing.TB, steps int64) (finished bool) {
	t.Helper()
	root := memoryDir(t)
	defer func() { _ = os.RemoveAll(root) }() // else by the end of the test
	tree := directory(t, root)
	defer func() { _ = tree.Close() }() // it was only read and written
	fuse := vfs.NewFuse(tree, steps)
	fuse.Torn = torn[steps%int64(len(torn))]
	at, before, after := c.play(t, fuse)
	if t.Failed() {
		return true
	}
	s, err := c.open(directory(t, root))
	if err != nil {
		t.Errorf("stopped after %d steps, at %q: open: %v", steps, at, err)
		return true
	}
	for _, err := range []error{intact(t, s, before, after), pushable(t, s), s.Close()} {
		if err != nil {
			t.Errorf("stopped after %d steps, at %q: %v", steps, at, err)
		}
	}
	return !fuse.Blown() || t.Failed()
}

// torn are how much of the write is done that the world stops at.
var torn = []func(n int) int{
	func(n int) int { return n / 2 },
	func(int) int { return 0 },
	func(n int) int { return n - 1 },
	func(n int) int { return n },
	func(n int) int { return min(n, 1) },
}

// memoryDir is a t.TempDir that is in memory if the system has a place for that:
// what is played hundreds of times doesn't wait for a disk.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "storagetest")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func directory(t testing.TB, root string) vfs.FS {
	t.Helper()
	return must(vfs.Dir(root))(t)
}

// play runs the script until it ends or the world does. It returns where, and
// what was named before and after the act that was under way. An act counts as
// acknowledged if the world hadn't stopped when it returned.
func (c crash) play(t testing.TB, fuse *vfs.Fuse) (at string, before, after names) {
	t.Helper()
	before = make(names)
	s, err := c.reopen(fuse, nil)
	for _, a := range c.script {
		after = maps.Clone(before)
		a.then(after)
		switch {
		case err != nil:
		case a.do == nil:
			s, err = c.reopen(fuse, s)
		default:
			err = a.do(t.Context(), s)
		}
		if fuse.Blown() {
			bury(s)
			return a.name, before, after
		}
		if err != nil {
			t.Errorf("%s: %v", a.name, err)
			bury(s)
			return a.name, before, after
		}
		before = after
	}
	if err := s.Close(); err != nil && !fuse.Blown() {
		t.Errorf("close: %v", err)
	}
	return "close", before, before
}

// reopen closes s, if it isn't nil, and opens a store in the tree of fuse.
func (c crash) reopen(fuse *vfs.Fuse, s storage.Store) (storage.Store, error) {
	if s != nil {
		if err := s.Close(); err != nil {
			return s, err
		}
	}
	sub, err := fuse.Sub(".") // the store closes its tree, and fuse is needed again
	if err != nil {
		return nil, err
	}
	opened, err := c.open(sub)
	if err != nil {
		return nil, errors.Join(err, sub.Close())
	}
	return opened, nil
}

// bury gives back what the kernel takes from a dead process: its locks and
// files. Nothing that Close would write comes through.
func bury(s storage.Store) {
	if s != nil {
		_ = s.Close() // it can't but fail
	}
}

// intact says how what is named differs from both, or what that is named is broken.
func intact(t testing.TB, s storage.Store, before, after names) error {
	t.Helper()
	ctx := t.Context()
	r := s.Repository(name(t, crashing))
	got, err := namesOf(ctx, r)
	if err != nil {
		return err
	}
	if !maps.Equal(got, before) && !maps.Equal(got, after) {
		return fmt.Errorf("there is %v; want %v, or %v", got, before, after)
	}
	for _, d := range got {
		if err := readable(ctx, r, d); err != nil {
			return err
		}
	}
	return nil
}

func namesOf(ctx context.Context, r storage.Reader) (names, error) {
	found := make(names)
	idx, err := r.Index(ctx)
	if errors.Is(err, oci.NameUnknown) {
		return found, nil
	}
	if err != nil {
		return nil, err
	}
	for desc := range idx.Manifests() {
		found[desc.Digest.String()] = desc.Digest
	}
	for t, desc := range idx.Tags(oci.Tag{}) {
		found[t.String()] = desc.Digest
	}
	return found, nil
}

// readable reads the manifest d and all the blobs that it names.
func readable(ctx context.Context, r storage.Reader, d digest.Digest) error {
	desc, err := r.Resolve(ctx, oci.DigestRef(d))
	if err != nil {
		return err
	}
	m, err := storage.ReadManifest(ctx, r, desc)
	if err != nil {
		return fmt.Errorf("manifest %s: %w", d, err)
	}
	if m.Digest != d {
		return fmt.Errorf("manifest %s has the bytes of %s", d, m.Digest)
	}
	for b := range m.Required() {
		if err := verify(ctx, r, b.Digest); err != nil {
			return fmt.Errorf("blob of manifest %s: %w", d, err)
		}
	}
	return nil
}

func verify(ctx context.Context, r storage.Reader, d digest.Digest) error {
	b, err := r.OpenBlob(ctx, d)
	if err != nil {
		return err
	}
	v := d.Verifier()
	_, err = io.Copy(v, b)
	if err = errors.Join(err, b.Close()); err == nil && !v.Verified() {
		err = fmt.Errorf("%s has other bytes", d)
	}
	return err
}

// pushable says why an image can't be pushed, whatever of the script was done before.
func pushable(t testing.TB, s storage.Store) error {
	t.Helper()
	layer := strings.Repeat("layer", 1000)
	m := image(t, "after the crash", digest.FromString(layer))
	for _, a := range []act{pushBlobAct(t, crashing, layer), putAct(t, m, "latest", "new")} {
		if err := a.do(t.Context(), s); err != nil {
			return fmt.Errorf("%s after the crash: %w", a.name, err)
		}
	}
	got, err := namesOf(t.Context(), s.Repository(name(t, crashing)))
	if err != nil {
		return err
	}
	if got["latest"] != m.Digest || got["new"] != m.Digest {
		return fmt.Errorf("after a push there is %v", got)
	}
	return readable(t.Context(), s.Repository(name(t, crashing)), m.Digest)
}
