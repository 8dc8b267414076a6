package filesystem_test

import (
	"cmp"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// roomBeyond is how many bytes a file has on the disk beyond its end. Other file systems
// than ext4 have their own ways, and aren't asked to set aside any.
func roomBeyond(t *testing.T, name string) int {
	t.Helper()
	var on syscall.Statfs_t
	var st syscall.Stat_t
	check(t, syscall.Statfs(name, &on), syscall.Stat(name, &st))
	if on.Type != unix.EXT4_SUPER_MAGIC {
		return 0
	}
	return int(st.Blocks)*512 - int(st.Size)
}

// isExt4 reports whether room can be set aside where tests have their folders.
func isExt4(t *testing.T) bool {
	t.Helper()
	var on syscall.Statfs_t
	check(t, syscall.Statfs(t.TempDir(), &on))
	return on.Type == unix.EXT4_SUPER_MAGIC
}

// A large upload has room set aside while it comes, where that is worth something, and
// holds none that it doesn't need when it has come, or has stopped; also if it had begun
// before.
func TestRoomForUploads(t *testing.T) {
	t.Parallel()
	const kept, step, most = 1 << 20, 1 << 20, 8 << 20
	root, cut := t.TempDir(), errors.New("cut off")
	s := open(t, root, filesystem.Options{Unsynced: true})
	for name, want := range map[string]error{"ended": nil, "cut off": cut} {
		t.Run(name, func(t *testing.T) {
			u := must(repository(t, s, "a").NewUpload(t.Context(), storage.UploadOptions{}))(t)
			data := filepath.Join(root, "_uploads", u.ID(), "data")
			for turn := range 2 {
				beyond, offset := 0, u.Size()
				content := &asked{left: 29<<20 + 3, end: cmp.Or(want, io.EOF), by: func(came, _ int) {
					if came > most {
						beyond = max(beyond, roomBeyond(t, data))
					}
				}}
				if _, err := u.Append(t.Context(), offset, content); !errors.Is(err, want) {
					t.Fatalf("turn %d: error %v, want %v", turn, err, want)
				}
				if isExt4(t) && beyond < step || beyond > most {
					t.Errorf("turn %d: up to %d bytes were set aside", turn, beyond)
				}
				if n := roomBeyond(t, data); u.Size() != offset+29<<20+3 || n > kept {
					t.Errorf("turn %d: at %d bytes %d more are set aside", turn, u.Size(), n)
				}
			}
			check(t, u.Cancel(t.Context()), u.Close())
		})
	}
}

// A blob has no room set aside, not even if it's committed while the request that brought
// it still waits for more.
func TestRoomOfBlobs(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root, filesystem.Options{Unsynced: true})
	u := must(repository(t, s, "a").NewUpload(t.Context(), storage.UploadOptions{}))(t)
	const total = 5<<20 + 256<<10
	came, end := make(chan struct{}), make(chan struct{})
	ended, stop := make(chan error, 1), sync.OnceFunc(func() { close(end) })
	t.Cleanup(stop)
	go func() {
		_, err := u.Append(t.Context(), 0, io.MultiReader(&asked{left: total, by: func(int, int) {}}, waitingReader{came, end}))
		ended <- err
	}()
	<-came
	if n := roomBeyond(t, filepath.Join(root, "_uploads", u.ID(), "data")); isExt4(t) && n < 1<<20 {
		t.Errorf("%d bytes are set aside, want some", n)
	}
	second := must(repository(t, s, "a").ResumeUpload(t.Context(), u.ID()))(t)
	d := digest.FromBytes(make([]byte, second.Size()))
	must(second.Commit(t.Context(), d))(t)
	stop()
	if err := <-ended; err == nil {
		t.Error("who was still waiting for more wasn't told that the session is over")
	}
	check(t, u.Close(), second.Close())
	name := filepath.Join(root, "a", "blobs", "sha256", d.Encoded())
	if fi := must(os.Stat(name))(t); fi.Size() != second.Size() || roomBeyond(t, name) > 64<<10 {
		t.Errorf("the blob has %d bytes, and %d more on the disk", fi.Size(), roomBeyond(t, name))
	}
}

// waitingReader is content that doesn't come before end is closed. It closes came.
type waitingReader struct{ came, end chan struct{} }

func (w waitingReader) Read([]byte) (int, error) {
	close(w.came)
	<-w.end
	return 0, io.EOF
}
