package journal_test

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/caddy-oci/oci-registry/internal/journal"
	"github.com/caddy-oci/oci-registry/internal/vfs"
)

// oneByOne counts the files that are opened to be synced. The directory itself is what
// the system opens, so that all of its file system can be synced.
type oneByOne struct {
	vfs.FS
	files atomic.Int64
}

func (o *oneByOne) Open(name string) (vfs.File, error) {
	if name != "." {
		o.files.Add(1)
	}
	return o.FS.Open(name)
}

// Many files are synced together, those of the first epoch too.
func TestFirstFilesAreSyncedTogether(t *testing.T) {
	t.Parallel()
	under := &oneByOne{FS: must(vfs.Dir(t.TempDir()))(t)}
	j := journal.New(under, machine("boot", 1))
	check(t, j.Begin(never(t)))
	for i := range 20 {
		rwrite(t, j, fmt.Sprint("f", i), os.O_WRONLY|os.O_CREATE|os.O_EXCL, "content", true)
	}
	under.files.Store(0)
	check(t, j.End())
	if n := under.files.Load(); n > 0 {
		t.Errorf("%d files were synced by themselves", n)
	}
	check(t, j.Close())
}
