package filesystem_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// watchful looks at index.json whenever a repository is used.
var watchful = filesystem.Options{Recheck: -1}

// index is an index.json with the given entries.
func index(entries ...string) string {
	return `{"schemaVersion":2,"manifests":[` + strings.Join(entries, ",") + `]}`
}

func TestChangesByOthersAreNoticed(t *testing.T) {
	t.Parallel()
	ways := map[string]func(t *testing.T, name, content string){
		"in place": func(t *testing.T, name, content string) { write(t, content, name) },
		"replaced": func(t *testing.T, name, content string) {
			write(t, content, name+".tmp")
			check(t, os.Rename(name+".tmp", name))
		},
	}
	for way, change := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			m, n := image(t, "m"), image(t, "n")
			layOut(t, root, "a", index(entry(m, "v1")), m.Raw)
			r := repository(t, open(t, root, watchful), "a")
			r.want("v1", m)
			write(t, string(n.Raw), blobFile(root, "a", n.Digest))
			change(t, filepath.Join(root, "a", "index.json"), index(entry(n, "v1"), entry(m, "v0")))
			r.want("v1", n)
			r.want("v0", m)
			r.push(image(t, "ours"), "ours")
			r.wantTags("ours", "v0", "v1")
			change(t, filepath.Join(root, "a", "index.json"), index(entry(m, "v1")))
			r.push(image(t, "ours"), "ours") // a commit looks again as well
			r.wantTags("ours", "v1")
			r.want("v1", m)
		})
	}
}

func TestChangesByOthersAreNoticedWithinASecond(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root := t.TempDir()
		m, n := image(t, "m"), image(t, "n")
		layOut(t, root, "a", index(entry(m, "v1")), m.Raw, n.Raw)
		r := repository(t, open(t, root, filesystem.Options{}), "a")
		r.want("v1", m)
		write(t, index(entry(n, "v1")), root, "a/index.json")
		r.want("v1", m)
		time.Sleep(time.Second)
		r.want("v1", n)
	})
}

// ruins are ways to make index.json unreadable.
func ruins() map[string]func(t *testing.T, name string) {
	return map[string]func(t *testing.T, name string){
		"torn": func(t *testing.T, name string) {
			content := read(t, name)
			write(t, content[:len(content)-3], name)
		},
		"empty":   func(t *testing.T, name string) { write(t, "", name) },
		"removed": func(t *testing.T, name string) { check(t, os.Remove(name)) },
		"strange": func(t *testing.T, name string) { write(t, `{"manifests":[{"digest":"nonsense"}]}`, name) },
	}
}

func TestRuinedIndexIsServedAsItWasAndNotWritten(t *testing.T) {
	for way, ruin := range ruins() {
		t.Run(way, func(t *testing.T) {
			frozen(t, func(t *testing.T) {
				root := t.TempDir()
				s := open(t, root, watchful)
				r, other := repository(t, s, "a"), repository(t, s, "other")
				m := image(t, "m", r.pushBlob("x"))
				r.push(m, "v1")
				name := filepath.Join(root, "a", "index.json")
				good := read(t, name)
				ruin(t, name)

				for range 2 {
					r.want("v1", m)
					r.want(m.Digest.String(), m)
					r.wantBlob("x")
					r.wantBroken()
					other.push(image(t, "fine"), "v1")
				}
				time.Sleep(10 * time.Second) // what works in the background touches nothing
				synctest.Wait()
				r.wantBroken()
				if exists(t, name) && read(t, name) == good {
					t.Fatal("index.json was restored by itself")
				}
				wantCatalog(t, s, "a", "other")

				write(t, good, name)
				r.want("v1", m)
				r.push(image(t, "n"), "v2")
				r.wantTags("v1", "v2")
			})
		})
	}
}

func TestRuinedIndexIsServedFromItsCopyAfterARestart(t *testing.T) {
	for way, ruin := range ruins() {
		t.Run(way, func(t *testing.T) {
			frozen(t, func(t *testing.T) {
				live := t.TempDir()
				s := open(t, live, filesystem.Options{})
				m, n := image(t, "m"), image(t, "n")
				repository(t, s, "a").push(m, "v1")
				shut(t, s) // the copy is made
				repository(t, open(t, live, filesystem.Options{LogFrom: 1}), "a").push(n, "v2")
				root := snapshot(t, live)
				name := filepath.Join(root, "a", "index.json")
				good := read(t, name)
				ruin(t, name)

				s = open(t, root, watchful)
				r := repository(t, s, "a")
				r.want("v1", m)
				r.want("v2", n) // which only the log has
				r.wantBroken()
				time.Sleep(10 * time.Second)
				synctest.Wait()
				write(t, good, name)
				r.wantTags("v1", "v2")
				r.push(m, "v3")
				shut(t, s)
				repository(t, open(t, root, watchful), "a").wantTags("v1", "v2", "v3")
			})
		})
	}
}

func TestRuinedIndexWithoutACopyIsAnError(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	layOut(t, root, "a", "{", image(t, "m").Raw)
	s := open(t, root, watchful)
	r := repository(t, s, "a")
	if _, err := r.Index(t.Context()); !errors.Is(err, storage.ErrBroken) {
		t.Fatalf("error %v, want ErrBroken", err)
	}
	r.wantBroken()
	wantCatalog(t, s, "a")
	write(t, index(entry(image(t, "m"), "v1")), root, "a/index.json")
	r.want("v1", image(t, "m"))
}

func TestRemovedRepositoryIsGone(t *testing.T) {
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) {
			frozen(t, func(t *testing.T) {
				root := t.TempDir()
				opts.Recheck = -1
				s := open(t, root, opts)
				r, kept := repository(t, s, "a"), repository(t, s, "kept")
				old := image(t, "old", r.pushBlob("x"))
				r.push(old, "v1")
				r.push(old, "v2")
				kept.push(image(t, "kept"), "v1")
				wantCatalog(t, s, "a", "kept")
				check(t, os.RemoveAll(filepath.Join(root, "a")))

				r.wantUnknown()
				r.wantNoBlob(old.Blobs[0].Digest)
				wantCatalog(t, s, "kept")
				r.push(image(t, "new", r.pushBlob("y")), "v3")
				r.wantTags("v3")
				r.wantBlob("y")
				shut(t, s)
				r = repository(t, open(t, root, opts), "a")
				r.wantTags("v3")
				r.wantNone(old.Digest.String())
			})
		})
	}
}

func TestRemovedBlobsAreGone(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root, watchful)
	r := repository(t, s, "a") // without index.json
	d := r.pushBlob("x")
	wantCatalog(t, s, "a")
	check(t, os.RemoveAll(filepath.Join(root, "a")))
	r.wantNoBlob(d)
	r.wantUnknown()
	r.pushBlob("x")
	r.wantBlob("x")

	r.push(image(t, "m"), "v1")
	check(t, os.Rename(filepath.Join(root, "a", "blobs"), filepath.Join(root, "a", "aside")))
	r.pushBlob("y") // into a folder that takes the place of the one that is open
	r.wantBlob("y")
}

func TestRemovedRootIsNotAnEmptyOne(t *testing.T) {
	ways := map[string]func(root string) error{
		"removed": os.RemoveAll,
		"emptied": func(root string) error {
			entries, err := os.ReadDir(root)
			for _, e := range entries {
				err = errors.Join(err, os.RemoveAll(filepath.Join(root, e.Name())))
			}
			return err
		},
	}
	for way, remove := range ways {
		t.Run(way, func(t *testing.T) {
			frozen(t, func(t *testing.T) {
				root := filepath.Join(t.TempDir(), "root")
				s := open(t, root, watchful)
				standby := open(t, root, watchful)
				repository(t, s, "a").push(image(t, "m"), "v1")
				repository(t, standby, "a").wantTags("v1")
				synctest.Wait()
				check(t, remove(root))
				for _, s := range []storage.Store{s, standby, s} {
					if way == "removed" && s.Ready(t.Context()) == nil {
						t.Fatal("the store is ready")
					}
					r := repository(t, s, "a")
					if _, err := r.Index(t.Context()); err == nil || errors.Is(err, oci.NameUnknown) {
						t.Fatalf("Index: error %v, want that the tree is gone", err)
					}
					if _, err := r.StatBlob(t.Context(), image(t, "m").Digest); err == nil || errors.Is(err, oci.BlobUnknown) {
						t.Fatalf("StatBlob: error %v, want that the tree is gone", err)
					}
					if name, err := firstName(t, s); err == nil {
						t.Fatalf("the catalog begins with %q", name)
					}
				}
			})
		})
	}
}

func firstName(t *testing.T, s storage.Store) (oci.Name, error) {
	t.Helper()
	for name, err := range s.Repositories(t.Context(), oci.Name{}) {
		return name, err
	}
	return oci.Name{}, nil
}

func TestRepositoriesOfOthersAreFound(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root := t.TempDir()
		m := image(t, "m")
		s := open(t, root, filesystem.Options{})
		repository(t, s, "ours").push(m, "v1")
		wantCatalog(t, s, "ours")

		layOut(t, root, "used", index(entry(m, "v1")), m.Raw)
		layOut(t, root, "x/unused", index(entry(m, "v1")), m.Raw)
		repository(t, s, "used").want("v1", m)
		wantCatalog(t, s, "ours", "used")

		time.Sleep(2 * time.Minute)
		catalog(t, s) // which begins a walk
		synctest.Wait()
		wantCatalog(t, s, "ours", "used", "x/unused")

		check(t, os.RemoveAll(filepath.Join(root, "x")))
		time.Sleep(2 * time.Minute)
		catalog(t, s)
		synctest.Wait()
		wantCatalog(t, s, "ours", "used")
	})
}

func TestManifestsThatComeLateAreRead(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	child, other := image(t, "child"), image(t, "other")
	top := imageIndex(t, child)
	layOut(t, root, "a", index(entry(top, "v1")), child.Raw) // names first, content after
	r := repository(t, open(t, root, watchful), "a")
	r.wantNone(child.Digest.String())
	write(t, string(top.Raw), blobFile(root, "a", top.Digest))
	write(t, string(other.Raw), blobFile(root, "a", other.Digest))
	write(t, index(entry(top, "v1"), entry(other, "v2")), root, "a/index.json")
	r.want(child.Digest.String(), child)
}
