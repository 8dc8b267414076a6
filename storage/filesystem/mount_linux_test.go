package filesystem_test

import (
	"io/fs"
	"path"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// mounted is an FS in which the folder far is another file system.
type mounted struct {
	vfs.FS

	prefix string
}

func (m mounted) far(name string) bool {
	return strings.HasPrefix(path.Join(m.prefix, name)+"/", "far/")
}

func (m mounted) Stat(name string) (fs.FileInfo, error) {
	fi, err := m.FS.Stat(name)
	if err != nil || !m.far(name) {
		return fi, err
	}
	return farInfo{fi}, nil
}

func (m mounted) Sub(name string) (vfs.FS, error) {
	sub, err := m.FS.Sub(name)
	return mounted{sub, path.Join(m.prefix, name)}, err
}

func (m mounted) Rename(from, to string) error {
	if m.far(from) != m.far(to) {
		return &fs.PathError{Op: "rename", Path: to, Err: syscall.EXDEV}
	}
	return m.FS.Rename(from, to)
}

func (m mounted) Link(from, to string) error {
	if m.far(from) != m.far(to) {
		return &fs.PathError{Op: "link", Path: to, Err: syscall.EXDEV}
	}
	return m.FS.Link(from, to)
}

// farInfo is of a file on another device.
type farInfo struct{ fs.FileInfo }

func (i farInfo) Sys() any {
	st, ok := i.FileInfo.Sys().(*unix.Stat_t)
	if !ok {
		return nil
	}
	other := *st
	other.Dev++
	return &other
}

func TestRepositoryOnAnotherFileSystem(t *testing.T) {
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) {
			frozen(t, func(t *testing.T) {
				root := t.TempDir()
				fsys := must(vfs.Dir(root))(t)
				s := must(filesystem.OpenFS(mounted{fsys, ""}, opts))(t)
				t.Cleanup(func() { shut(t, s) })
				near, far := repository(t, s, "near"), repository(t, s, "far/app")
				layer := large("layer")
				m, n := image(t, "m", digestOf(layer), digestOf("small")), image(t, "n")
				for _, r := range []repo{near, far} {
					r.pushBlob(layer)
					r.pushBlob("small")
					r.push(m, "v1")
					r.push(n, "v2", "latest")
					r.delete("latest")
				}
				must(far.MountBlob(t.Context(), near.pushBlob(large("mounted")), near.Name()))(t)
				far.wantBlob(large("mounted"))
				time.Sleep(time.Second) // until it's settled
				synctest.Wait()
				far.push(n, "v3")
				far.drop(digestOf(large("mounted")))
				shut(t, s)

				far = repository(t, open(t, root, filesystem.Options{}), "far/app")
				far.wantTags("v1", "v2", "v3")
				check(t, whole(t.Context(), far, m.Descriptor))
				wantFiles(t, root, "far/app", "index.json", "oci-layout")
				wantFiles(t, root, "_repos/far,app", "history", "index.json")
				wantFiles(t, root, "_uploads")
			})
		})
	}
}
