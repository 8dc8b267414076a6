package journal

import (
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/caddy-oci/oci-registry/internal/vfs"
)

// The past epoch's log has a file, and this one's what was appended since. Another file
// takes its name, which isn't recorded yet when the past epoch is over: what was appended
// isn't done to that one.
func TestReplacedWhileTwoLogsHaveIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAppending(t)
		synced, replaced := make(chan struct{}), make(chan struct{})
		var once sync.Once
		a.watch(func(s vfs.Step) error {
			if s.Op == "syncdir" && s.Name == "." {
				once.Do(func() {
					close(synced)
					<-replaced
				})
			}
			return nil
		})
		a.turn()
		<-synced
		a.check(a.Append([]byte("two")))

		const content = "content that is longer"
		f, err := a.j.OpenFile("other", os.O_RDWR|os.O_CREATE|os.O_EXCL)
		a.check(err)
		_, err = f.Write([]byte(content))
		a.check(err, f.Sync())
		_, err = f.Write([]byte(", and more")) // so that the journal hasn't got all of it
		a.check(err, f.Close(), a.j.Rename("other", "log"))
		close(replaced)
		synctest.Wait()
		if got := a.afterPowerCut(); !strings.HasPrefix(got, content) {
			t.Errorf("after a power cut it holds %q, want %q", got, content)
		}
		a.check(a.j.End())
	})
}

// The same, where the log is full in the middle of the rename: what was appended before
// it, and not waited for, is in the next one.
func TestReplacedWhileALogEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAppending(t)
		_, err := a.Write([]byte("two"))
		a.check(err, a.SyncLater())

		content := strings.Repeat("content", maxChange)
		f, err := a.j.OpenFile("other", os.O_RDWR|os.O_CREATE|os.O_EXCL)
		a.check(err)
		_, err = f.Write([]byte(content))
		a.check(err, f.Sync(), f.Close())
		limit := a.tree.opts.Limit
		a.watch(func(s vfs.Step) error {
			if s.Op == "write" && strings.HasPrefix(s.Name, logDir) { // by who holds wave
				a.tree.opts.Limit = limit
			}
			return nil
		})
		a.tree.opts.Limit = headSize // once
		a.check(a.j.Rename("other", "log"))
		synctest.Wait()
		// Which of the two it is depends on whether the past epoch's files were synced before.
		if got := a.afterPowerCut(); got != content && got != "onetwo" {
			t.Errorf("after a power cut it holds %d bytes that begin with %q, want those of either file", len(got), got[:min(len(got), 20)])
		}
		a.check(a.j.End())
	})
}
