package filesystem_test

import (
	"cmp"
	"errors"
	"io"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// A large upload has room set aside while it comes, on file systems where that is worth
// something, and holds none that it doesn't need when it has come, or has stopped.
func TestRoomForUploads(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	var on syscall.Statfs_t
	check(t, syscall.Statfs(root, &on))
	s := open(t, root, filesystem.Options{Unsynced: true})
	cut := errors.New("cut off")
	for name, want := range map[string]error{"ended": nil, "cut off": cut} {
		t.Run(name, func(t *testing.T) {
			u := must(repository(t, s, "a").NewUpload(t.Context(), storage.UploadOptions{}))(t)
			room := func() (beyond int) {
				var st syscall.Stat_t
				check(t, syscall.Stat(filepath.Join(root, "_uploads", u.ID(), "data"), &st))
				return int(st.Blocks)*512 - int(st.Size)
			}
			const total, step = 29<<20 + 3, 1 << 20
			most := 0
			content := &asked{left: total, end: cmp.Or(want, io.EOF), by: func(came, _ int) {
				if came > 8<<20 {
					most = max(most, room())
				}
			}}
			if _, err := u.Append(t.Context(), 0, content); !errors.Is(err, want) {
				t.Fatalf("error %v, want %v", err, want)
			}
			if on.Type == unix.EXT4_SUPER_MAGIC && most < step {
				t.Errorf("no more than %d bytes were set aside", most)
			}
			if u.Size() != total || room() > step {
				t.Errorf("%d bytes of %d have come, and %d more are set aside", u.Size(), total, room())
			}
			check(t, u.Cancel(t.Context()), u.Close())
		})
	}
}
