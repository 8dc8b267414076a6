package filesystem_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// busy is what happens to a repository that's copied meanwhile: names move, go
// and come again. Nil stands for a pause, in which the log is folded.
func busy(t testing.TB) []*act {
	t.Helper()
	m := make([]oci.Manifest, 4)
	for i := range m {
		m[i] = image(t, fmt.Sprint(i))
	}
	return []*act{
		putAct("a/b", m[0], "v0", "latest"), putAct("a/b", m[1], "v1"),
		nil,
		putAct("a/b", m[1], "latest"), deleteAct("a/b", m[0]), untagAct("a/b", "v1"),
		nil,
		putAct("a/b", m[0], "v1", "v2"), putAct("a/b", m[2], "latest"), // what was deleted comes again
		nil,
		putAct("a/b", m[3], "v3", "latest"), untagAct("a/b", "v2"), deleteAct("a/b", m[2]),
		nil,
		putAct("a/b", m[0], "latest"), putAct("a/b", m[2], "v3"), deleteAct("a/b", m[1]),
		nil,
		deleteAct("a/b", m[0]), putAct("a/b", m[3], "v0", "v1", "v2", "latest"),
	}
}

// moment is what a copy made at some step of a store finds of the names in a/b,
// and which of its past states they may be.
type moment struct {
	own   map[string]string // the files of _repos/a,b that a copy takes
	index string
	acked int // the number of acts that are done
	begun int // the same, with the one that is under way
}

// watch plays a script and returns each step's moment, and the states before the
// first act and after each.
func watch(t *testing.T, root string, script []*act) (moments []moment, states []meaning) {
	t.Helper()
	var acked, begun atomic.Int64
	var mu sync.Mutex // the background takes steps as well
	s := openFaulty(t, root, filesystem.Options{LogFrom: 1}, func(vfs.Step) error {
		mu.Lock()
		defer mu.Unlock()
		m := moment{acked: int(acked.Load()), own: copyOwn(t, root), index: readIfThere(t, root, "a/b/index.json")}
		m.begun = int(begun.Load())
		moments = append(moments, m)
		return nil
	})
	synctest.Wait() // until what is done at the start is done
	states = append(states, meaning{})
	for _, a := range script {
		if a == nil {
			time.Sleep(time.Second)
			synctest.Wait()
			continue
		}
		begun.Add(1)
		check(t, a.do(t.Context(), s))
		acked.Add(1)
		names := maps.Clone(states[len(states)-1])
		a.then(names)
		states = append(states, names)
	}
	shut(t, s)
	return moments, states
}

func copyOwn(t *testing.T, root string) map[string]string {
	t.Helper()
	own := make(map[string]string)
	for _, name := range files(t, root, "_repos/a,b") {
		if !strings.HasPrefix(name, "tmp-") {
			own[name] = read(t, root, "_repos/a,b", name)
		}
	}
	return own
}

func readIfThere(t *testing.T, elem ...string) string {
	t.Helper()
	if !exists(t, elem...) {
		return ""
	}
	return read(t, elem...)
}

// copied is a copy whose parts were taken at two steps, and between which two of
// the states its names have to be, both included.
type copied struct {
	own         map[string]string
	index       string
	first, last int
}

// copies are all the copies that can be made with _repos at one step and the
// layouts at the same step or a later one; or, with wrong, at an earlier one.
func copies(moments []moment, wrong bool) map[string]*copied {
	all := make(map[string]*copied)
	for i, at := range moments {
		later := moments[i:]
		if wrong {
			later = moments[:i]
		}
		for _, then := range later {
			if then.index == "" && wrong {
				continue // there was no repository
			}
			first, last := at.acked, then.begun
			if wrong {
				first, last = 0, at.begun
			}
			key := fmt.Sprintf("%q %q", at.own["log"], then.index)
			c := all[key]
			if c == nil {
				c = &copied{at.own, then.index, first, last}
				all[key] = c
			}
			c.first, c.last = max(c.first, first), min(c.last, last)
		}
	}
	return all
}

// restore makes a root of a copy. The blobs are taken last of all, when all are there.
func (c *copied) restore(t *testing.T, root string) string {
	t.Helper()
	to := memoryDir(t)
	withReserve(t, to)
	for name, content := range c.own {
		check(t, os.MkdirAll(filepath.Join(to, "_repos/a,b"), 0o700))
		write(t, content, to, "_repos/a,b", name)
	}
	check(t, os.MkdirAll(filepath.Join(to, "a/b/blobs"), 0o700))
	check(t, os.CopyFS(filepath.Join(to, "a/b/blobs"), os.DirFS(filepath.Join(root, "a/b/blobs"))))
	if c.index != "" {
		write(t, c.index, to, "a/b/index.json")
		write(t, read(t, root, "a/b/oci-layout"), to, "a/b/oci-layout")
	}
	return to
}

// A copy of a live root takes _repos first, the layouts after and the blobs last
// (docs/operations.md). Whatever happens meanwhile, the names in it are those of
// one moment of that time.
func TestCopiedNamesAreOfOneMoment(t *testing.T) {
	for name, wrong := range map[string]bool{"in order": false, "layouts first": true} {
		t.Run(name, func(t *testing.T) {
			frozen(t, func(t *testing.T) {
				root := memoryDir(t)
				moments, states := watch(t, root, busy(t))
				all := copies(moments, wrong)
				t.Logf("%d copies that differ, of %d steps", len(all), len(moments))
				for _, c := range all {
					c.check(t, root, states[c.first:c.last+1])
				}
			})
		})
	}
}

// check opens the copy, which has to hold one of the states, twice: what is
// pushed to it stays, and doesn't change what it is.
func (c *copied) check(t *testing.T, root string, states []meaning) {
	t.Helper()
	to := c.restore(t, root)
	s := open(t, to, filesystem.Options{LogFrom: 1})
	got := must(meaningOf(t.Context(), s))(t)
	if !slices.ContainsFunc(states, func(want meaning) bool { return maps.Equal(got, want) }) {
		t.Fatalf("with the log\n%s\nand index.json\n%s\nthere is %v,\nwant one of %v", c.own["log"], c.index, got, states)
	}
	more := putAct("a/b", image(t, "more"), "more")
	check(t, more.do(t.Context(), s))
	more.then(got)
	killed := snapshot(t, to)
	for _, root := range []string{killed, to} {
		shut(t, s)
		s = open(t, root, filesystem.Options{LogFrom: 1})
		if again := must(meaningOf(t.Context(), s))(t); !maps.Equal(again, got) {
			t.Fatalf("with the log\n%s\nand index.json\n%s\na push, and opened again, there is %v,\nwant %v", c.own["log"], c.index, again, got)
		}
	}
	shut(t, s)
	check(t, os.RemoveAll(to), os.RemoveAll(killed))
}
