package filesystem_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// client pushes to one repository, moves a tag that all fight for, and removes
// half of what it pushed.
type client struct {
	id     int
	repo   storage.Repository
	images []oci.Manifest
}

const rounds = 6

func (c *client) run(ctx context.Context) error {
	for i, m := range c.images {
		for _, content := range []string{large("shared"), fmt.Sprint("layer ", c.id, " ", i)} {
			if _, err := pushBlob(ctx, c.repo, content); err != nil {
				return fmt.Errorf("push a blob: %w", err)
			}
		}
		tag := fmt.Sprintf("c%d-%d", c.id, i)
		if err := put(ctx, c.repo, m, tag, "latest"); err != nil {
			return fmt.Errorf("push %s: %w", tag, err)
		}
		// latest may have gone with a manifest that another one has deleted.
		_, err := c.repo.Resolve(ctx, oci.TagRef(tagOf("latest")))
		if err != nil && !errors.Is(err, oci.ManifestUnknown) {
			return err
		}
		if i%2 == 0 {
			continue
		}
		if err := storage.DeleteManifest(ctx, c.repo, oci.DigestRef(m.Digest), ""); err != nil {
			return fmt.Errorf("delete %s: %w", tag, err)
		}
	}
	return nil
}

func TestManyClients(t *testing.T) {
	t.Parallel()
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := memoryDir(t)
			opts.Recheck = -1
			s := open(t, root, opts)
			var clients []*client
			for id := range 60 {
				c := &client{id: id, repo: named(s, []string{"one", "one", "two", "three/four"}[id%4])}
				for i := range rounds {
					c.images = append(c.images, image(t, fmt.Sprint(id, " ", i),
						digestOf(large("shared")), digestOf(fmt.Sprint("layer ", id, " ", i))))
				}
				clients = append(clients, c)
			}
			g, ctx := errgroup.WithContext(t.Context())
			for _, c := range clients {
				g.Go(func() error { return c.run(ctx) })
			}
			check(t, g.Wait())
			wantClients(t, s, clients)
			wantNoUploads(t, root)
			shut(t, s)
			wantClients(t, open(t, root, opts), clients)
			for _, name := range []string{"one", "two", "three/four"} {
				readIndex(t, root, name)
			}
		})
	}
}

// wantClients fails unless there is what the clients left.
func wantClients(t *testing.T, s storage.Store, clients []*client) {
	t.Helper()
	for _, c := range clients {
		r := repository(t, s, c.repo.Name().String())
		for i, m := range c.images {
			tag := fmt.Sprintf("c%d-%d", c.id, i)
			if i%2 == 1 {
				r.wantNone(tag, m.Digest.String())
				continue
			}
			r.want(tag, m)
			check(t, whole(t.Context(), r, m.Descriptor))
		}
	}
}

func TestGroupedCommitsLoseNothing(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root := t.TempDir()
		r := repository(t, open(t, root, filesystem.Options{}), "a/b")
		r.push(image(t, "m"), "v")
		const all = 50
		entered, proceed := make(chan struct{}), make(chan struct{})
		var g errgroup.Group
		g.Go(func() error { // it keeps the others waiting
			return r.Update(t.Context(), func(e *storage.Edit) error {
				close(entered)
				<-proceed
				e.Tag(tagOf("first"), image(t, "m").Digest)
				return nil
			})
		})
		<-entered
		var queued atomic.Int64
		for i := range all {
			g.Go(func() error {
				queued.Add(1)
				return put(t.Context(), r, image(t, fmt.Sprint(i)), fmt.Sprint("v", i))
			})
		}
		for queued.Load() < all {
			runtime.Gosched()
		}
		close(proceed)
		check(t, g.Wait())
		if got := len(r.tags()); got != all+2 {
			t.Fatalf("%d tags, want %d", got, all+2)
		}
		time.Sleep(time.Second) // more than one batch makes a log
		synctest.Wait()
		wantIndex(t, root, r.tags())
	})
}

func TestUpdateThatPanicsIsNobodysSuccess(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), filesystem.Options{})
	r := repository(t, s, "a")
	entered, proceed := make(chan struct{}), make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		check(t, r.Update(t.Context(), func(e *storage.Edit) error {
			close(entered)
			<-proceed
			e.Put(image(t, "first"))
			return nil
		}))
	})
	<-entered
	var acknowledged sync.Map
	for i := range 20 {
		done.Go(func() {
			defer func() { _ = recover() }() // as a server does
			err := r.Update(t.Context(), func(e *storage.Edit) error {
				if i == 10 {
					panic("a bug")
				}
				e.Put(image(t, fmt.Sprint(i)))
				return nil
			})
			if err == nil {
				acknowledged.Store(i, true)
			}
		})
	}
	close(proceed)
	done.Wait()
	r.push(image(t, "after"), "after")
	acknowledged.Range(func(i, _ any) bool {
		r.want(image(t, fmt.Sprint(i)).Digest.String(), image(t, fmt.Sprint(i)))
		return true
	})
}

func TestLostLockAmongManyClients(t *testing.T) {
	t.Parallel()
	root := memoryDir(t)
	s := open(t, root, filesystem.Options{LogFrom: 1})
	var acknowledged sync.Map
	var g errgroup.Group
	for id := range 20 {
		g.Go(func() error {
			for i := range 10 {
				if id == 0 {
					if err := os.Remove(filepath.Join(root, "_lock")); err != nil && !errors.Is(err, os.ErrNotExist) {
						return err
					}
				}
				tag := fmt.Sprintf("t%d-%d", id, i)
				err := put(t.Context(), named(s, "a"), image(t, tag), tag)
				switch {
				case err == nil:
					acknowledged.Store(tag, true)
				case !errors.Is(err, storage.ErrStandby):
					return err
				}
			}
			return nil
		})
	}
	check(t, g.Wait(), s.Ready(t.Context()))
	shut(t, s)
	r := repository(t, open(t, root, filesystem.Options{}), "a")
	acknowledged.Range(func(tag, _ any) bool {
		name, _ := tag.(string)
		r.want(name, image(t, name))
		return true
	})
}

func TestManyNamesOfNothingAreForgotten(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), filesystem.Options{})
	for i := range 100 {
		repository(t, s, fmt.Sprint("nothing-", i)).wantUnknown()
	}
	wantCatalog(t, s)
	if got := filesystem.Known(s); got != 0 {
		t.Fatalf("%d names are kept", got)
	}
}

func TestBackgroundIsNotStarvedByChanges(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root := t.TempDir()
		s := open(t, root, filesystem.Options{LogFrom: 1})
		for i := range 2 {
			repository(t, s, "first").push(image(t, fmt.Sprint(i)), "v1")
		}
		for i := range 20 { // others change more often than the background looks
			time.Sleep(100 * time.Millisecond)
			repository(t, s, fmt.Sprint("other-", i)).push(image(t, "m"), "v1")
		}
		synctest.Wait()
		if exists(t, root, "_repos/first/log") {
			t.Fatal("two seconds after the last change there's a log")
		}
	})
}

func TestCloseReleasesEverything(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		t.Skip("this system doesn't list open files")
	}
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			d := new(disk)
			s := openFaulty(t, root, opts, d.step)
			standby := open(t, root, opts)
			for i := range 5 {
				r := repository(t, s, fmt.Sprint("r", i))
				r.push(image(t, "m", r.pushBlob(large("x"))), "v1")
				r.push(image(t, "n"), "v2")
				r.want("v1", image(t, "m", digestOf(large("x"))))
				repository(t, standby, fmt.Sprint("r", i)).wantTags("v1", "v2")
				u := must(r.NewUpload(t.Context(), storage.UploadOptions{}))(t)
				must(u.Append(t.Context(), 0, strings.NewReader("x")))(t)
				check(t, u.Close())
			}
			repository(t, s, "r0").push(image(t, "o"), "v3")
			d.full.Store(true) // so that no log can be folded
			shut(t, standby)
			shut(t, s)
			if open := openFiles(t, root); len(open) > 0 {
				t.Fatalf("open after Close: %v", open)
			}
		})
	}
}

// openFiles are the files under a folder that this process has open.
func openFiles(t *testing.T, root string) []string {
	t.Helper()
	var found []string
	for _, fd := range must(os.ReadDir("/proc/self/fd"))(t) {
		name, err := os.Readlink("/proc/self/fd/" + fd.Name())
		if err == nil && strings.HasPrefix(name, root) {
			found = append(found, name)
		}
	}
	return found
}

// TestStepsOfAPush counts what a push costs, which doesn't depend on the clock.
func TestStepsOfAPush(t *testing.T) {
	for name, want := range map[string]struct {
		opts        filesystem.Options
		syncs, dirs int
	}{
		"journal": {filesystem.Options{}, 1, 0},
		"direct":  {filesystem.Options{Direct: true}, 4, 2}, // blob, manifest, history, index.json; blobs/sha256, the repository
	} {
		t.Run(name, func(t *testing.T) { countSteps(t, want.opts, want.syncs, want.dirs) })
	}
}

func countSteps(t *testing.T, opts filesystem.Options, syncs, dirs int) {
	t.Helper()
	frozen(t, func(t *testing.T) {
		rec := new(recorder)
		s := openFaulty(t, t.TempDir(), opts, rec.step)
		r := repository(t, s, "a")
		r.push(image(t, "first", r.pushBlob("x")), "v1")
		r.push(image(t, "before", r.pushBlob("z")), "v1")
		synctest.Wait() // what's done at the start is over
		rec.reset()
		r.push(image(t, "second", r.pushBlob("y")), "v1")
		if got := rec.ops("sync"); len(got) != syncs {
			t.Fatalf("synced %v", got)
		}
		if got := rec.ops("syncdir"); len(got) != dirs {
			t.Fatalf("synced the folders %v", got)
		}
		rec.reset()
		r.want("v1", image(t, "second", digestOf("y")))
		if got := append(rec.ops("stat"), rec.ops("readdir")...); len(got) > 0 {
			t.Fatalf("a read looked at %v", got)
		}
	})
}
