package filesystem_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// flip damages a file without changing its size.
func flip(t *testing.T, name string) {
	t.Helper()
	b := []byte(read(t, name))
	b[len(b)/2] ^= 1
	check(t, os.Chmod(name, 0o600))
	write(t, string(b), name)
}

// good and lost are the manifests of an unclean root.
func good(t *testing.T) oci.Manifest {
	t.Helper()
	return image(t, "good", digest.FromString("fine"), digest.FromString(large("flipped")), digest.FromString("emptied"))
}

func lost(t *testing.T) oci.Manifest {
	t.Helper()
	return image(t, "lost")
}

// unclean is a root that an unsynced store was at work in when the power went.
// In a, bytes of a manifest and of two blobs are lost or damaged; in b, which
// has no index.json, those of a blob; and one in the pool that nobody has.
func unclean(t *testing.T) string {
	t.Helper()
	live := t.TempDir()
	s := open(t, live, filesystem.Options{Unsynced: true})
	a, b, c := repository(t, s, "a"), repository(t, s, "b"), repository(t, s, "c")
	for _, content := range []string{"fine", large("flipped"), "emptied"} {
		a.pushBlob(content)
	}
	a.push(good(t), "good")
	a.push(lost(t), "lost")
	b.pushBlob(large("only a blob"))
	b.pushBlob("fine")
	c.pushBlob(large("orphan"))

	root := snapshot(t, live) // in which nothing is shared
	for _, name := range []string{
		blobFile(root, "a", digest.FromString(large("flipped"))),
		blobFile(root, "b", digest.FromString(large("only a blob"))),
		poolFile(root, digest.FromString(large("flipped"))),
		poolFile(root, digest.FromString(large("orphan"))),
	} {
		flip(t, name)
	}
	check(t, os.RemoveAll(filepath.Join(root, "c")),
		os.Truncate(blobFile(root, "a", digest.FromString("emptied")), 0),
		os.Truncate(blobFile(root, "a", lost(t).Digest), 0))
	return root
}

func TestUncleanStopIsVerifiedBeforeItIsServed(t *testing.T) {
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) {
			frozen(t, func(t *testing.T) {
				root := unclean(t)
				s := open(t, root, opts)
				// At once, whether or not the verification has come so far.
				c := repository(t, s, "c")
				for _, content := range []string{large("flipped"), large("orphan")} {
					c.pushBlob(content)
					c.wantBlob(content)
				}
				b := repository(t, s, "b")
				b.wantNoBlob(digest.FromString(large("only a blob")))
				b.wantBlob("fine")
				a := repository(t, s, "a")
				a.wantTags("good")
				a.wantNone("lost", lost(t).Digest.String())
				a.want("good", good(t))
				a.wantBlob("fine")
				for _, content := range []string{large("flipped"), "emptied"} {
					a.wantNoBlob(digest.FromString(content))
				}

				synctest.Wait()
				for _, content := range []string{large("flipped"), large("orphan"), "emptied"} {
					a.pushBlob(content)
					a.wantBlob(content)
				}
				a.push(lost(t), "lost")
				shut(t, s)
				if exists(t, root, "_unsynced") {
					t.Fatal("the mark stays after a clean stop")
				}
				a = repository(t, open(t, root, filesystem.Options{}), "a")
				check(t, whole(t.Context(), a, good(t).Descriptor))
				a.want("lost", lost(t))
			})
		})
	}
}

func TestUncleanStopIsVerifiedInTheBackground(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root := unclean(t)
		s := open(t, root, filesystem.Options{})
		synctest.Wait()
		for _, name := range []string{
			blobFile(root, "a", digest.FromString(large("flipped"))),
			blobFile(root, "b", digest.FromString(large("only a blob"))),
			poolFile(root, digest.FromString(large("flipped"))),
			poolFile(root, digest.FromString(large("orphan"))),
		} {
			if exists(t, name) {
				t.Fatalf("%s is there, though it's damaged", name)
			}
		}
		c := repository(t, s, "c")
		d := c.pushBlob(large("new"))
		must(repository(t, s, "d").MountBlob(t.Context(), d, c.Name()))(t)
		if !same(t, blobFile(root, "c", d), blobFile(root, "d", d), poolFile(root, d)) {
			t.Fatal("the pool isn't used again")
		}
	})
}

func TestUncleanStopOfARuinedRepository(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root := unclean(t)
		whole := read(t, root, "a/index.json")
		write(t, whole, root, "_repos/a/index.json")
		write(t, whole[:len(whole)/2], root, "a/index.json")
		a := repository(t, open(t, root, filesystem.Options{}), "a")
		a.want("good", good(t))
		a.wantBroken()
		a.wantNoBlob(digest.FromString(large("flipped"))) // verified all the same
		if _, err := storage.GetManifest(t.Context(), a, reference(t, "lost")); !errors.Is(err, oci.ManifestUnknown) {
			t.Fatalf("error %v, want MANIFEST_UNKNOWN", err)
		}
	})
}

func TestUnfinishedVerificationBeginsAnew(t *testing.T) {
	t.Parallel()
	root := unclean(t)
	var failing atomic.Bool
	failing.Store(true)
	name := "b/blobs/sha256/" + digest.FromString(large("only a blob")).Encoded()
	s := openFaulty(t, root, filesystem.Options{}, func(step vfs.Step) error {
		if failing.Load() && step.Op == "read" && step.Name == name {
			return syscall.EIO
		}
		return nil
	})
	b := repository(t, s, "b")
	for range 2 {
		if _, err := b.StatBlob(t.Context(), digest.FromString("fine")); !errors.Is(err, syscall.EIO) {
			t.Fatalf("error %v, want EIO", err) // not verified, so not served
		}
	}
	shut(t, s)
	if !exists(t, root, "_unsynced") {
		t.Fatal("the mark has gone, though not everything is verified")
	}
	b = repository(t, open(t, root, filesystem.Options{}), "b")
	b.wantBlob("fine")
	b.wantNoBlob(digest.FromString(large("only a blob")))
}

func TestCleanStopTrustsWhatWasWrittenUnsynced(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root, filesystem.Options{})
	s.Tune(filesystem.Options{Unsynced: true})
	if !exists(t, root, "_unsynced") {
		t.Fatal("there's no mark")
	}
	r := repository(t, s, "a")
	d := r.pushBlob(large("x"))
	r.push(image(t, "m", d), "v1")
	shut(t, s)
	if exists(t, root, "_unsynced") {
		t.Fatal("the mark stays")
	}
	flip(t, blobFile(root, "a", d))
	r = repository(t, open(t, root, filesystem.Options{}), "a")
	if _, err := r.StatBlob(t.Context(), d); err != nil {
		t.Fatalf("a blob was read though the stop was clean: %v", err)
	}
}
