package filesystem_test

import (
	"errors"
	"maps"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// TestFailedSyncIsNoSync: a Sync that fails has lost the bytes, and the next one
// says that they are safe. Who counts on that loses what was acknowledged.
func TestFailedSyncIsNoSync(t *testing.T) {
	for name, opts := range syncing() {
		t.Run(name, func(t *testing.T) {
			frozen(t, func(t *testing.T) {
				syncs := 0
				for failSync(t, opts, syncs) {
					syncs++
				}
				t.Logf("%d syncs failed", syncs)
			})
		})
	}
}

// failSync plays the script with a Sync that fails, does again what failed with
// it, and cuts the power then, and at the end. It returns false if there was no
// such Sync.
func failSync(t *testing.T, opts filesystem.Options, at int) bool {
	t.Helper()
	root := memoryDir(t)
	memory := must(vfs.NewForgetful(must(vfs.Dir(root))(t)))(t)
	withReserve(t, root)
	b := &breaker{at: at, err: syscall.EIO, of: changes}
	memory.FailSync(func(name string) error { return b.step(vfs.Step{Op: "sync", Name: name}) })
	f := &failing{t: t, root: root, breaker: b, theatre: &theatre{filesystem.AfterReboot(opts), memory, never}, names: make(meaning)}
	f.open()
	for _, a := range script(t) {
		before := b.isBroken()
		if a == nil {
			f.close()
			f.open()
		} else {
			f.act(a)
		}
		if b.isBroken() && !before {
			f.survives(memory)
		}
	}
	f.survives(memory)
	f.close()
	check(t, memory.Forget(), memory.Close(), os.RemoveAll(root))
	return b.isBroken()
}

// survives fails unless a power cut leaves what was acknowledged.
func (f *failing) survives(memory *vfs.Forgetful) {
	f.t.Helper()
	synctest.Wait()
	left := memoryDir(f.t)
	check(f.t, memory.PowerCut(left))
	withReserve(f.t, left)
	s := open(f.t, left, f.opts)
	got, err := meaningOf(f.t.Context(), s)
	if err != nil {
		f.fatalf("after a power cut: %v", err)
	}
	if without(f.t, s, f.names, got); !maps.Equal(got, f.names) {
		f.fatalf("after a power cut there is %v, want %v", got, f.names)
	}
	shut(f.t, s)
	check(f.t, os.RemoveAll(left))
}

// leftBehind has ways that content comes to be there before it's pushed: each
// returns how it's pushed, again if that fails.
func leftBehind(content string) map[string]func(t *testing.T, root string, r repo) (push func() error) {
	d := digestOf(content)
	return map[string]func(*testing.T, string, repo) func() error{
		"session": func(t *testing.T, _ string, r repo) func() error {
			u := must(r.NewUpload(t.Context(), storage.UploadOptions{}))(t)
			must(u.Append(t.Context(), 0, strings.NewReader(content)))(t)
			t.Cleanup(func() { check(t, u.Close()) })
			return func() error {
				_, err := u.Commit(t.Context(), d)
				if errors.Is(err, oci.BlobUploadUnknown) { // the client begins again
					_, err = pushBlob(t.Context(), r, content)
				}
				return err
			}
		},
		"blob of others": func(t *testing.T, root string, r repo) func() error {
			write(t, content, blobFile(root, "a", d))
			return func() error { return nil }
		},
		"manifest of others": func(t *testing.T, root string, r repo) func() error {
			r.pushBlob(content)
			m := image(t, "m", d)
			write(t, string(m.Raw), blobFile(root, "a", m.Digest))
			return func() error { return nil }
		},
	}
}

// The same of files that a second try finds as the first one left
// them: a session's, and those that other tools have written.
func TestFailedSyncOfWhatIsThereAlready(t *testing.T) {
	content := large("content")
	d := digestOf(content)
	for name, prepare := range leftBehind(content) {
		t.Run(name, func(t *testing.T) {
			frozen(t, func(t *testing.T) {
				root := memoryDir(t)
				memory := must(vfs.NewForgetful(must(vfs.Dir(root))(t)))(t)
				p := &theatre{filesystem.Options{}, memory, never}
				s := must(p.open())(t)
				r := repository(t, s, "a")
				r.push(image(t, "first"), "v0")
				push := prepare(t, root, r)
				m, failed := image(t, "m", d), 0
				synctest.Wait() // for what is done beside
				memory.FailSync(func(name string) error {
					if !strings.Contains(name, "blobs/") && !strings.HasPrefix(name, "_uploads/") && len(name) != 64 || failed > 0 {
						return nil
					}
					failed++
					return syscall.EIO
				})
				for try := 0; ; try++ {
					err := push()
					if err == nil {
						err = put(t.Context(), r, m, "v1")
					}
					if err == nil {
						break
					}
					if !errors.Is(err, syscall.EIO) || try > 3 {
						t.Fatalf("error %v, want EIO", err)
					}
				}
				if failed != 1 {
					t.Fatalf("%d syncs have failed", failed)
				}
				left := memoryDir(t)
				check(t, memory.PowerCut(left))
				after := repository(t, open(t, left, filesystem.AfterReboot(filesystem.Options{})), "a")
				after.want("v1", m)
				after.wantBlob(content)
				check(t, s.Close(), memory.Forget(), memory.Close())
			})
		})
	}
}
