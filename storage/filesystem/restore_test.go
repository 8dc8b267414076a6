package filesystem_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

func wantBreakages(t *testing.T, s *filesystem.Store, want ...string) {
	t.Helper()
	got := must(s.Broken(t.Context()))(t)
	names := make([]string, 0, len(got))
	for _, b := range got {
		names = append(names, fmt.Sprint(b.Name, " ", b.LastGood))
		if !errors.Is(b.Cause, storage.ErrBroken) {
			t.Fatalf("%s is broken because of %v", b.Name, b.Cause)
		}
	}
	if fmt.Sprint(names) != fmt.Sprint(want) {
		t.Fatalf("broken are %v, want %v", names, want)
	}
}

func restore(t *testing.T, s *filesystem.Store, name string) {
	t.Helper()
	check(t, s.Restore(t.Context(), must(oci.ParseName(name))(t)))
}

// What is served of a ruined index.json can be written again, whether it's from
// memory or, after a restart, from the copy and the log.
func TestRestore(t *testing.T) {
	for way, ruin := range ruins() {
		for _, restarted := range []bool{false, true} {
			t.Run(fmt.Sprint(way, ", restarted: ", restarted), func(t *testing.T) {
				frozen(t, func(t *testing.T) {
					root := t.TempDir()
					s := open(t, root, filesystem.Options{Recheck: -1, LogFrom: 1})
					m, n := image(t, "m"), image(t, "n")
					repository(t, s, "a").push(m, "v1")
					repository(t, s, "other").push(m, "v1")
					time.Sleep(time.Second) // the copy is made
					synctest.Wait()
					repository(t, s, "a").push(n, "v2") // only the log has it
					name := filepath.Join(root, "a", "index.json")
					if restarted {
						root = snapshot(t, root)
						name = filepath.Join(root, "a", "index.json")
						ruin(t, name)
						s = open(t, root, filesystem.Options{Recheck: -1, LogFrom: 1})
					} else {
						ruin(t, name)
					}
					r := repository(t, s, "a")
					r.wantBroken()
					wantBreakages(t, s, "a true")
					if err := s.Ready(t.Context()); err != nil {
						t.Fatalf("for one repository the store isn't ready: %v", err)
					}
					restore(t, s, "a")
					wantBreakages(t, s)
					for range 2 {
						r.want("v1", m)
						r.want("v2", n)
						r.wantTags("v1", "v2")
						r.push(m, "v3")
						r.delete("v3")
						shut(t, s)
						s = open(t, root, filesystem.Options{})
						r = repository(t, s, "a")
					}
					if way != "removed" && !exists(t, root, "_repos/a/damaged-index.json") {
						t.Fatal("what was damaged isn't kept")
					}
				})
			})
		}
	}
}

func TestRestoreOfADamagedLog(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprint("restarted: ", restarted), func(t *testing.T) {
			frozen(t, func(t *testing.T) {
				live := t.TempDir()
				logged(t, open(t, live, filesystem.Options{LogFrom: 1}))
				root := snapshot(t, live)
				log := []byte(read(t, root, logFile))
				s := open(t, root, filesystem.Options{Recheck: -1})
				if !restarted {
					wantLogged(t, s, []oci.Manifest{image(t, "v0", digestOf("layer 0")), image(t, "v1", digestOf("layer 1")), image(t, "v2", digestOf("layer 2")), image(t, "v3", digestOf("layer 3"))})
				} else {
					shut(t, s)
					root = snapshot(t, live)
				}
				log[len(log)/2] ^= 1
				write(t, string(log), root, logFile)
				if restarted {
					s = open(t, root, filesystem.Options{Recheck: -1})
				} else {
					check(t, os.Chtimes(filepath.Join(root, "a/b/index.json"), time.Time{}, time.Now())) // so that it's read again
				}
				r := repository(t, s, "a/b")
				r.wantBroken()
				tags := r.tags()
				restore(t, s, "a/b")
				if got := r.tags(); !maps.Equal(got, tags) {
					t.Fatalf("tags are %v, want %v", got, tags)
				}
				r.push(image(t, "more"), "more")
				tags["more"] = image(t, "more").Digest
				if read(t, root, "_repos/a,b/damaged-log") != string(log) {
					t.Fatal("the damaged log isn't kept")
				}
				shut(t, s)
				if got := repository(t, open(t, root, filesystem.Options{}), "a/b").tags(); !maps.Equal(got, tags) {
					t.Fatalf("tags are %v, want %v", got, tags)
				}
			})
		})
	}
}

// What only the memory knew is durable once index.json has it, whatever happens to
// the log afterwards.
func TestRestoreOfMoreThanTheFilesHave(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root := t.TempDir()
		var failing atomic.Bool
		s := openFaulty(t, root, filesystem.Options{LogFrom: 1, Recheck: -1}, func(step vfs.Step) error {
			if failing.Load() && step.Op == "remove" && step.Name == logFile {
				return syscall.EIO
			}
			return nil
		})
		r, images := logged(t, s)
		log := []byte(read(t, root, logFile))
		log[len(log)/2] ^= 1
		write(t, string(log), root, logFile)
		check(t, os.Chtimes(filepath.Join(root, "a/b/index.json"), time.Time{}, time.Now()))
		r.wantBroken()
		failing.Store(true)
		if err := s.Restore(t.Context(), r.Name()); !errors.Is(err, syscall.EIO) {
			t.Fatalf("error %v, want EIO", err)
		}
		again := open(t, snapshot(t, root), filesystem.Options{})
		wantLogged(t, again, images)
		wantBreakages(t, again)
	})
}

func TestRestoreOfWhatIsNotBroken(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root, watchful)
	repository(t, s, "a").push(image(t, "m"), "v1")
	before := read(t, root, "a/index.json")
	restore(t, s, "a")
	if read(t, root, "a/index.json") != before || exists(t, root, "_repos/a/damaged-index.json") {
		t.Fatal("something was done")
	}
	if err := s.Restore(t.Context(), must(oci.ParseName("none"))(t)); !errors.Is(err, oci.NameUnknown) {
		t.Fatalf("error %v, want NAME_UNKNOWN", err)
	}
}

func TestRestoreWithoutGoodNames(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	layOut(t, root, "a", "{", image(t, "m").Raw)
	s := open(t, root, watchful)
	if _, err := repository(t, s, "a").Index(t.Context()); !errors.Is(err, storage.ErrBroken) {
		t.Fatalf("error %v, want ErrBroken", err)
	}
	wantBreakages(t, s, "a false")
	if err := s.Restore(t.Context(), must(oci.ParseName("a"))(t)); !errors.Is(err, storage.ErrBroken) {
		t.Fatalf("error %v, want ErrBroken", err)
	}
	if read(t, root, "a/index.json") != "{" {
		t.Fatal("it was changed")
	}
	write(t, index(entry(image(t, "m"), "v1")), root, "a/index.json") // by hand
	wantBreakages(t, s)
}

// A restore that's cut off at any step loses no name, and can be done again.
func TestRestoreSurvivesAPowerCut(t *testing.T) {
	for name, opts := range syncing() {
		for _, ruined := range []string{"a/b/index.json", logFile} {
			t.Run(name+", "+ruined, func(t *testing.T) {
				frozen(t, func(t *testing.T) {
					steps, stride := int64(0), int64(5)
					if soak() {
						stride = 1
					}
					root := ruinedRoot(t, ruined)
					for cutRestore(t, opts, root, steps) {
						steps += stride
					}
					t.Logf("the power was cut at each %d of %d steps", stride, steps)
				})
			})
		}
	}
}

// ruinedRoot is what a killed process leaves, with a file damaged.
func ruinedRoot(t *testing.T, file string) string {
	t.Helper()
	live := memoryDir(t)
	logged(t, open(t, live, filesystem.Options{LogFrom: 1, Direct: true}))
	root := snapshot(t, live)
	content := []byte(read(t, root, file))
	content[len(content)/2] ^= 0x80
	write(t, string(content), root, file)
	return root
}

// cutRestore cuts the power after some steps of a restore. It returns false when
// that came to its end.
func cutRestore(t *testing.T, opts filesystem.Options, ruined string, steps int64) bool {
	t.Helper()
	root, left := snapshot(t, ruined), memoryDir(t)
	withReserve(t, root)
	memory := must(vfs.NewForgetful(must(vfs.Dir(root))(t)))(t)
	fuse := vfs.NewFuse(memory, steps)
	p := &theatre{filesystem.AfterReboot(opts), fuse, fuse.Blown}
	tags, done := p.restore(t)
	check(t, memory.PowerCut(left), memory.Forget(), memory.Close(), os.RemoveAll(root))

	withReserve(t, left)
	s := open(t, left, filesystem.AfterReboot(opts))
	r := repository(t, s, "a/b")
	for range 2 {
		if got := r.tags(); tags != nil && !maps.Equal(got, tags) {
			t.Fatalf("cut after %d steps, restored: %v: tags are %v, want %v", steps, done, got, tags)
		}
		if done {
			wantBreakages(t, s)
		}
		restore(t, s, "a/b")
	}
	r.push(image(t, "more"), "more")
	r.want("more", image(t, "more"))
	shut(t, s)
	check(t, os.RemoveAll(left))
	return fuse.Blown()
}

// restore returns what the tags were before, unless the power was cut then, and
// whether it was acknowledged.
func (p *theatre) restore(t *testing.T) (tags map[string]digest.Digest, done bool) {
	t.Helper()
	s, err := p.open()
	if err != nil {
		return nil, false
	}
	defer func() { _ = s.Close() }() // the fuse may be blown
	name := must(oci.ParseName("a/b"))(t)
	idx, err := s.Repository(name).Index(t.Context())
	if err != nil || p.dead() {
		return nil, false
	}
	tags = make(map[string]digest.Digest)
	for tag, desc := range idx.Tags(oci.Tag{}) {
		tags[tag.String()] = desc.Digest
	}
	err = s.Restore(t.Context(), name)
	return tags, err == nil && !p.dead()
}
