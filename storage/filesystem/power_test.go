package filesystem_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// meaning is what all names of a store mean: "repository:tag" and
// "repository@digest" to digest.
type meaning map[string]digest.Digest

// act is what somebody asks of a store, and what it makes of the names.
type act struct {
	name string
	do   func(ctx context.Context, s storage.Store) error
	then func(meaning)
}

// script pushes, moves and deletes in every way. Nil instead of an act closes
// the store and opens it again.
func script(t testing.TB) []*act {
	t.Helper()
	layer := large("layer")
	shared, l1, l2 := digest.FromString(layer), digest.FromString("l1"), digest.FromString("l2")
	v1, v2 := image(t, "v1", shared, l1), image(t, "v2", shared, l2)
	top := imageIndex(t, v1, v2)
	return []*act{
		blobAct("a/b", layer), blobAct("a/b", "l1"),
		putAct("a/b", v1, "v1", "latest"),
		blobAct("a/b", "l2"),
		nil, // who puts v2 hasn't written its blobs
		putAct("a/b", v2, "v2", "latest"),
		blobAct("other", layer), mountAct("other", l1, "a/b"), mountAct("other", l2, "a/b"),
		putAct("other", v2, "v2"), putAct("other", v1),
		putAct("a/b", top, "all"), putAct("a/b", v1, "again"),
		untagAct("a/b", "again"), deleteAct("other", v1),
		nil,
		deleteAct("a/b", top), deleteAct("a/b", v1), dropAct(l1),
		putAct("a/b", v2, "v3"),
		blobAct("other", "old"), collectAct("other", "old"),
	}
}

func named(s storage.Store, name string) storage.Repository {
	n, err := oci.ParseName(name)
	if err != nil {
		panic(err) // a test's own
	}
	return s.Repository(n)
}

func blobAct(repo, content string) *act {
	return &act{fmt.Sprintf("push the blob %.9q to %s", content, repo), func(ctx context.Context, s storage.Store) error {
		_, err := pushBlob(ctx, named(s, repo), content)
		return err
	}, func(meaning) {}}
}

func mountAct(repo string, d digest.Digest, from string) *act {
	return &act{fmt.Sprintf("mount %s from %s", d, from), func(ctx context.Context, s storage.Store) error {
		_, err := named(s, repo).MountBlob(ctx, d, named(s, from).Name())
		return err
	}, func(meaning) {}}
}

func putAct(repo string, m oci.Manifest, tags ...string) *act {
	return &act{fmt.Sprintf("put %v to %s", tags, repo), func(ctx context.Context, s storage.Store) error {
		return put(ctx, named(s, repo), m, tags...)
	}, func(names meaning) {
		names[repo+"@"+m.Digest.String()] = m.Digest
		for _, tag := range tags {
			names[repo+":"+tag] = m.Digest
		}
	}}
}

func untagAct(repo, tag string) *act {
	return &act{"untag " + tag, func(ctx context.Context, s storage.Store) error {
		return storage.DeleteManifest(ctx, named(s, repo), oci.TagRef(tagOf(tag)), "")
	}, func(names meaning) { delete(names, repo+":"+tag) }}
}

func tagOf(s string) oci.Tag {
	tag, err := oci.ParseTag(s)
	if err != nil {
		panic(err) // a test's own
	}
	return tag
}

func deleteAct(repo string, m oci.Manifest) *act {
	return &act{"delete " + m.String(), func(ctx context.Context, s storage.Store) error {
		return storage.DeleteManifest(ctx, named(s, repo), oci.DigestRef(m.Digest), "")
	}, func(names meaning) {
		maps.DeleteFunc(names, func(name string, d digest.Digest) bool {
			return d == m.Digest && strings.HasPrefix(name, repo)
		})
	}}
}

// dropAct removes a blob of a/b. That it's gone is shown as a name.
func dropAct(d digest.Digest) *act {
	const repo = "a/b"
	return &act{"drop " + d.String(), func(ctx context.Context, s storage.Store) error {
		return storage.DeleteBlob(ctx, named(s, repo), d, "")
	}, func(names meaning) { names[repo+" without "+d.String()] = d }}
}

// collectAct marks a blob and removes what is marked. Who tries again marks it
// again: that a mark was lost makes nothing go sooner.
func collectAct(repo, content string) *act {
	d := digest.FromString(content)
	return &act{"collect " + content, func(ctx context.Context, s storage.Store) error {
		err := named(s, repo).Update(ctx, func(e *storage.Edit) error { e.Mark(d, markedAt); return nil })
		if err != nil {
			return err
		}
		return named(s, repo).Update(ctx, func(e *storage.Edit) error { e.DropMarkedBlob(d, markedAt); return nil })
	}, func(names meaning) { names[repo+" without "+d.String()] = d }}
}

// meaningOf is what the names of s mean, of which every byte is read.
func meaningOf(ctx context.Context, s storage.Store) (meaning, error) {
	found := make(meaning)
	for _, name := range []string{"a/b", "other"} {
		r := named(s, name)
		idx, err := r.Index(ctx)
		if errors.Is(err, oci.NameUnknown) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for desc := range idx.Manifests() {
			found[name+"@"+desc.Digest.String()] = desc.Digest
			if err := whole(ctx, r, desc); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
		for tag, desc := range idx.Tags(oci.Tag{}) {
			found[name+":"+tag.String()] = desc.Digest
		}
	}
	return found, nil
}

// whole reads a manifest and all that it needs.
func whole(ctx context.Context, r storage.Reader, desc oci.Descriptor) error {
	return wholeBut(ctx, r, desc, nil)
}

// wholeBut is whole that forgives an error of the blobs.
func wholeBut(ctx context.Context, r storage.Reader, desc oci.Descriptor, forgiven error) error {
	if err := readBlob(ctx, r, desc.Digest); err != nil {
		return fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	m, err := storage.ReadManifest(ctx, r, desc)
	if err != nil {
		return err
	}
	for b := range m.Required() {
		if err := readBlob(ctx, r, b.Digest); err != nil && !errors.Is(err, forgiven) {
			return fmt.Errorf("blob %s of %s: %w", b.Digest, desc.Digest, err)
		}
	}
	return nil
}

// theatre is where a script is played.
type theatre struct {
	opts filesystem.Options
	tree vfs.FS
	dead func() bool // whether the world has stopped
}

// open opens a store, which closes its tree, in the tree that is needed again.
func (p *theatre) open() (*filesystem.Store, error) {
	sub, err := p.tree.Sub(".")
	if err != nil {
		return nil, err
	}
	s, err := filesystem.OpenFS(sub, p.opts)
	if err != nil {
		return nil, errors.Join(err, sub.Close())
	}
	return s, nil
}

// play returns where it ended, and what names meant before and after that act.
// An act whose return found the world alive was acknowledged.
func (p *theatre) play(t *testing.T, script []*act) (at string, before, after meaning) {
	t.Helper()
	before = make(meaning)
	s, err := p.open()
	for _, a := range script {
		after = maps.Clone(before)
		at = "reopen"
		switch {
		case err != nil:
		case a == nil:
			if err = s.Close(); err == nil {
				s, err = p.open()
			}
		default:
			at = a.name
			a.then(after)
			err = a.do(t.Context(), s)
		}
		if p.dead() {
			break
		}
		check(t, err)
		before = after
	}
	if s != nil {
		err = s.Close()
	}
	if !p.dead() {
		check(t, err)
	}
	return at, before, after
}

func TestPowerCutAtEachStepLosesNothingAcknowledged(t *testing.T) {
	for name, opts := range syncing() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			steps, stride := int64(0), int64(3)
			if soak() {
				stride = 1
			}
			for replay(t, func(t *testing.T) bool { return cutPower(t, opts, steps) }) {
				steps += stride
			}
			t.Logf("the power was cut at each %d of %d steps", stride, steps)
		})
	}
}

// cutPower plays the script until a number of steps was done, cuts the power and
// looks at what is left. It returns false when the script has come to its end.
func cutPower(t *testing.T, opts filesystem.Options, steps int64) bool {
	t.Helper()
	root, left := memoryDir(t), memoryDir(t)
	memory := must(vfs.NewForgetful(must(vfs.Dir(root))(t)))(t)
	withReserve(t, root)
	fuse := vfs.NewFuse(memory, steps)
	p := &theatre{filesystem.AfterReboot(opts), fuse, fuse.Blown}
	at, before, after := p.play(t, script(t))
	check(t, memory.PowerCut(left), memory.Forget(), memory.Close())
	check(t, os.RemoveAll(root))

	withReserve(t, left)
	s := open(t, left, filesystem.AfterReboot(opts))
	got, err := meaningOf(t.Context(), s)
	if err != nil {
		t.Fatalf("cut after %d steps, in %q: %v", steps, at, err)
	}
	without(t, s, before, got)
	without(t, s, after, got)
	if !maps.Equal(got, before) && !maps.Equal(got, after) {
		t.Fatalf("cut after %d steps, in %q:\nthere is %v,\nwant     %v,\nor       %v", steps, at, got, before, after)
	}
	repository(t, s, "a/b").push(image(t, "more"), "more")
	shut(t, s)
	check(t, os.RemoveAll(left))
	return fuse.Blown()
}

// memoryDir is a t.TempDir that is in memory if the system has a place for that:
// tests that play a script hundreds of times don't wait for a disk.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "filesystem_test")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { check(t, os.RemoveAll(dir)) })
	return dir
}

// without adds to got which of the blobs that want is without aren't there.
func without(t *testing.T, s storage.Store, want, got meaning) {
	t.Helper()
	for name, d := range want {
		repo, _, ok := strings.Cut(name, " without ")
		if !ok {
			continue
		}
		if _, err := named(s, repo).StatBlob(t.Context(), d); errors.Is(err, oci.BlobUnknown) {
			got[name] = d
		}
	}
}

// withReserve spares a root the making of its reserve.
func withReserve(t testing.TB, root string) {
	t.Helper()
	name := filepath.Join(root, "_reserve")
	write(t, "", name)
	check(t, os.Truncate(name, 4<<20))
}

func TestUnsyncedSyncsNothing(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root := t.TempDir()
		rec := new(recorder)
		s := openFaulty(t, root, filesystem.Options{Unsynced: true}, rec.step)
		if got := rec.ops("sync"); !slices.Equal(got, []string{"_unsynced"}) {
			t.Fatalf("opening synced %v", got)
		}
		rec.reset()
		r := repository(t, s, "a/b")
		m := image(t, "m", r.pushBlob(large("layer")), r.pushBlob("x"))
		r.push(m, "v1")
		r.push(image(t, "n"), "v1")
		r.delete("v1")
		if got := append(rec.ops("sync"), rec.ops("syncdir")...); len(got) > 0 {
			t.Fatalf("synced %v", got)
		}

		s.Tune(filesystem.Options{}) // from now on it's safe, what was written before included
		rec.reset()
		r.push(m, "v2")
		synced := append(rec.ops("sync"), rec.ops("syncdir")...)
		for _, want := range []string{
			"a/b/blobs/sha256/" + m.Digest.Encoded(), "a/b/blobs/sha256/" + m.Blobs[0].Digest.Encoded(),
			"a/b/blobs/sha256", "a/b", "a", ".",
		} {
			if !slices.Contains(synced, want) {
				t.Fatalf("synced %v, not %s", synced, want)
			}
		}
	})
}

func TestBytesOfOthersAreSyncedBeforeTheyAreNamed(t *testing.T) {
	for name, opts := range syncing() {
		t.Run(name, func(t *testing.T) {
			frozen(t, func(t *testing.T) {
				root := t.TempDir()
				rec := new(recorder)
				opts.Direct = true // to see when each file is synced
				s := openFaulty(t, root, opts, rec.step)
				r := repository(t, s, "a")
				r.push(image(t, "first"), "v1")
				foreign, m := digest.FromString("foreign"), image(t, "there already")
				write(t, "foreign", blobFile(root, "a", foreign))
				write(t, string(m.Raw), blobFile(root, "a", m.Digest))
				rec.reset()
				r.push(image(t, "second", foreign), "v2")
				r.push(m, "v3")
				named := rec.first("rename", "a/index.json")
				if opts.LogFrom > 0 {
					named = rec.first("write", "_repos/a/log")
				}
				dir := rec.first("syncdir", "a/blobs/sha256")
				if at := rec.first("sync", "a/blobs/sha256/"+foreign.Encoded()); at < 0 || at > dir || dir > named {
					t.Fatalf("the blob is synced at step %d, its name at %d, named at %d", at, dir, named)
				}
				if rec.first("sync", "a/blobs/sha256/"+m.Digest.Encoded()) < 0 {
					t.Fatal("the manifest isn't synced")
				}
				rec.reset()
				r.push(image(t, "third", foreign), "v4") // known to be durable by now
				if rec.first("sync", "a/blobs/sha256/"+foreign.Encoded()) >= 0 {
					t.Fatal("the blob is synced again")
				}
			})
		})
	}
}
