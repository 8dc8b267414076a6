package journal_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-oci/oci-registry/internal/journal"
	"github.com/caddy-oci/oci-registry/internal/vfs"
)

// inode is a file of the model: what POSIX promises of it.
type inode struct {
	content []byte // as it is
	synced  []byte // as it was when it was last synced
	ever    bool   // whether it was
	later   []byte // as it was when SyncLater was called; nil if that's no promise
	void    bool   // a Sync has failed: what it should have written is lost, and later ones promise nothing
}

// binding is what a name may mean after a power cut: the first was durable, the
// rest came after it. Nil is nothing; a directory is an inode too.
type binding []*inode

func (b binding) last() *inode { return b[len(b)-1] }

// ahead is an append to a file that may have been cut off. If anything of it is there, all
// is that was recorded before.
type ahead struct {
	name   string
	before int
	later  map[*inode][]byte
}

// model does to a file system what a store does, at random, and knows what has to
// survive.
type model struct {
	t     *testing.T
	luck  *rand.Rand
	fs    vfs.FS
	names map[string]binding
	open  map[string]vfs.File // files that are appended to
	mu    sync.Mutex
	trace []string
	n     int

	ahead   *ahead          // the append with which the world ended
	goOn    bool            // failures end nothing
	doubted map[string]bool // directories that Begin had verified
}

var modelDirs = []string{"a", "b", "a/deep"}

func (m *model) fatalf(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("%s\n%s", fmt.Sprintf(format, args...), strings.Join(m.trace, "\n"))
}

func (m *model) note(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trace = append(m.trace, fmt.Sprintf(format, args...))
}

// check ends the test if an operation failed while the world is alive.
func (m *model) check(err error) bool {
	if err != nil {
		m.note("  failed: %v", err)
	}
	return err == nil
}

func (m *model) now(name string) *inode {
	if b := m.names[name]; b != nil {
		return b.last()
	}
	return nil
}

func (m *model) bind(name string, to *inode) {
	if m.names[name] == nil {
		m.names[name] = binding{nil}
	}
	m.names[name] = append(m.names[name], to)
}

func (m *model) pick(names ...string) string { return names[m.luck.IntN(len(names))] }

// final is the name of a file that is replaced as a whole.
func (m *model) final() string { return m.pick("a/x", "a/y", "b/x", "a/deep/x", "b/y") }

func (m *model) bytes() []byte {
	n := m.luck.IntN(3000)
	if m.luck.IntN(12) == 0 {
		n = 64<<10 + m.luck.IntN(3000)
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(m.luck.IntN(256))
	}
	return b
}

// do does something. False ends the play: the world has stopped.
func (m *model) do() bool {
	return m.step() || m.goOn
}

func (m *model) step() bool {
	switch m.luck.IntN(12) {
	case 10, 11:
		return m.make(m.final(), m.bytes())
	case 0, 1, 2:
		return m.stage()
	case 3, 4:
		return m.appendTo(m.pick("a/log", "b/log"))
	case 5:
		return m.remove(m.final())
	case 6:
		return m.link(m.final(), m.final())
	case 7:
		if m.luck.IntN(4) == 0 {
			return m.rename(m.final(), m.final())
		}
		return m.syncDir(m.pick(".", "a", "b", "a/deep"))
	case 8:
		if m.luck.IntN(8) == 0 {
			return m.doubt("b")
		}
		return m.patch(m.final())
	}
	return m.syncDir(m.pick(modelDirs...))
}

// mkdirs makes the directories that are missing.
func (m *model) mkdirs() bool {
	for _, dir := range modelDirs {
		if m.now(dir) != nil {
			continue
		}
		m.note("mkdir %s", dir)
		err := m.fs.Mkdir(dir)
		if errors.Is(err, fs.ErrExist) {
			err = nil
		}
		if !m.check(err) {
			return false
		}
		m.bind(dir, new(inode))
	}
	return true
}

// stage writes a file and gives it a name.
func (m *model) stage() bool {
	m.n++
	tmp, content := fmt.Sprintf("a/tmp-%d", m.n), m.bytes()
	f, err := m.fs.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if !m.check(err) {
		return false
	}
	n := &inode{content: content}
	m.bind(tmp, n)
	_, err = f.Write(content)
	how := m.pick("sync", "later", "not")
	m.note("stage %s %d bytes, %s", tmp, len(content), how)
	switch {
	case err != nil:
	case how == "sync":
		err = m.sync(f, n)
	case how == "later":
		if l, ok := f.(interface{ SyncLater() error }); ok {
			if err = l.SyncLater(); err == nil {
				n.later = content
			}
		}
	}
	if err = errors.Join(err, f.Close()); !m.check(err) {
		return false
	}
	return m.rename(tmp, m.final())
}

// make makes a file in one step.
func (m *model) make(name string, content []byte) bool {
	j, ok := m.fs.(*journal.FS)
	if !ok || m.now(name) != nil {
		return true
	}
	n := &inode{content: content}
	make := j.Make
	if m.luck.IntN(3) > 0 {
		make, n.later = j.MakeLater, content
	}
	m.note("make %s, %d bytes, later %t", name, len(content), n.later != nil)
	err := make(name, content)
	if errors.Is(err, errors.ErrUnsupported) {
		m.note("  it can't be")
		return true
	}
	if err != nil {
		n.later = nil
	}
	m.bind(name, n)
	return m.check(err)
}

func (m *model) rename(from, to string) bool {
	n := m.now(from)
	if n == nil || n == m.now(to) {
		return true
	}
	m.note("rename %s to %s", from, to)
	if n == nil {
		return true
	}
	left := *n
	m.names[from][len(m.names[from])-1] = &left // what is synced by the new name is by that alone
	m.bind(from, nil)                           // whether it works or not, it may have
	was := m.names[to]
	m.bind(to, n)
	if !m.check(m.fs.Rename(from, to)) {
		m.names[from] = append(m.names[from], n)
		m.names[to] = append(m.names[to], was...)
		return false
	}
	return true
}

func (m *model) link(from, to string) bool {
	n := m.now(from)
	if n == nil || m.now(to) != nil {
		return true
	}
	m.note("link %s to %s", from, to)
	m.bind(to, n)
	return m.check(m.fs.Link(from, to))
}

func (m *model) remove(name string) bool {
	if m.now(name) == nil {
		return true
	}
	m.note("remove %s", name)
	m.bind(name, nil)
	return m.check(m.fs.Remove(name))
}

func (m *model) appendTo(name string) bool {
	f := m.open[name]
	if f == nil {
		if f = m.reopen(name); f == nil {
			return false
		}
	}
	n, more := m.now(name), m.bytes()
	how := m.pick("not synced", "synced", "ahead", "ahead")
	m.note("append %d bytes to %s, %s", len(more), name, how)
	n.content = append(bytes.Clone(n.content), more...)
	var err error
	if how == "ahead" {
		err = m.appendAhead(f, name, more)
	} else if _, err = f.Write(more); err == nil && how == "synced" {
		err = m.sync(f, n)
	}
	if err != nil { // how much of it is there isn't known
		delete(m.open, name)
		return m.check(errors.Join(err, f.Close()))
	}
	return true
}

// appendAhead appends so that all that was recorded before is durable first.
func (m *model) appendAhead(f vfs.File, name string, more []byte) error {
	a, n := &ahead{name, len(m.now(name).content) - len(more), make(map[*inode][]byte)}, m.now(name)
	for _, b := range m.names {
		for _, l := range b {
			if l != nil && l.later != nil {
				a.later[l] = l.later
			}
		}
	}
	appender, ok := f.(interface{ Append(p []byte) error })
	if !ok {
		m.fatalf("%s can't be appended to", name)
	}
	so := m.noted()
	if err := appender.Append(more); err != nil {
		m.ahead, n.void = a, n.void || m.hasFailed("sync", so)
		return err
	}
	if !n.void {
		n.synced, n.ever = n.content, true
	}
	m.promote(a.later)
	return nil
}

func (m *model) noted() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.trace)
}

// hasFailed reports whether an operation was made to fail since then.
func (m *model) hasFailed(op string, since int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.trace[since:], func(line string) bool {
		return strings.HasPrefix(line, "    "+op+" ") && strings.HasSuffix(line, " fails")
	})
}

// promote notes that what was recorded of files is durable.
func (m *model) promote(later map[*inode][]byte) {
	for n, content := range later {
		n.synced, n.ever, n.later = content, true, nil
	}
}

func (m *model) sync(f vfs.File, n *inode) error {
	err := f.Sync()
	n.void = n.void || err != nil
	if !n.void {
		n.synced, n.ever = n.content, true
	}
	return err
}

// reopen opens a file to append to it. What it holds is what there is.
func (m *model) reopen(name string) vfs.File {
	m.note("open %s", name)
	f, err := m.fs.OpenFile(name, os.O_RDWR|os.O_CREATE)
	if !m.check(err) {
		return nil
	}
	if m.now(name) == nil {
		m.bind(name, new(inode))
	}
	n := m.now(name)
	if n.content, err = io.ReadAll(f); !m.check(err) || !bytes.HasPrefix(n.content, n.synced) {
		_ = f.Close()
		return nil
	}
	m.open[name] = f
	return f
}

// patch appends to a file by a handle of its own.
func (m *model) patch(name string) bool {
	n := m.now(name)
	if n == nil || m.linked(n) {
		return true
	}
	more := m.bytes()
	m.note("append %d bytes to %s by another handle", len(more), name)
	f, err := m.fs.OpenFile(name, os.O_RDWR|os.O_APPEND)
	if !m.check(err) {
		return false
	}
	n.content, n.later = append(bytes.Clone(n.content), more...), nil
	_, err = f.Write(more)
	if err == nil && m.luck.IntN(2) == 0 {
		m.note("  sync it")
		err = m.sync(f, n)
	}
	return m.check(errors.Join(err, f.Close()))
}

// linked reports whether a file has, or has had, more than one name at once.
func (m *model) linked(n *inode) bool {
	count := 0
	for _, b := range m.names {
		if b.last() == n {
			count++
		}
	}
	return count > 1
}

func (m *model) doubt(dir string) bool {
	j, ok := m.fs.(*journal.FS)
	if !ok {
		return true
	}
	m.note("doubt %s", dir)
	return m.check(j.Doubt(dir))
}

func (m *model) syncDir(dir string) bool {
	m.note("syncdir %s", dir)
	if !m.check(m.fs.SyncDir(dir)) {
		return false
	}
	for name, b := range m.names {
		if path.Dir(name) == dir {
			m.names[name] = b[len(b)-1:]
		}
		for _, n := range b { // all that was recorded before is durable now
			if n != nil && n.later != nil {
				n.synced, n.ever, n.later = n.later, true, nil
			}
		}
	}
	return true
}

// holds fails unless the tree is what a power cut may leave.
func (m *model) holds(tree vfs.FS) {
	if a := m.ahead; a != nil && !m.goOn {
		if fi, err := tree.Stat(a.name); err == nil && fi.Size() > int64(a.before) {
			m.note("%s has %d bytes, and had %d", a.name, fi.Size(), a.before)
			m.promote(a.later)
		}
	}
	for name, b := range m.names {
		if m.doubted[path.Dir(name)] {
			continue
		}
		if parent := path.Dir(name); parent != "." && m.mayBeGone(parent) {
			if _, err := tree.Stat(parent); errors.Is(err, fs.ErrNotExist) {
				continue
			}
		}
		if !m.fits(tree, name, b) {
			m.fatalf("%s isn't what it may be", name)
		}
	}
}

func (m *model) mayBeGone(dir string) bool {
	for ; dir != "."; dir = path.Dir(dir) {
		for _, n := range m.names[dir] {
			if n == nil {
				return true
			}
		}
	}
	return false
}

func (m *model) fits(tree vfs.FS, name string, b binding) bool {
	f, err := tree.Open(name)
	var got []byte
	if err == nil {
		fi, serr := f.Stat()
		if serr == nil && !fi.IsDir() {
			got = make([]byte, fi.Size())
			_, _ = f.ReadAt(got, 0)
		}
		_ = f.Close()
	}
	for _, n := range b {
		switch {
		case n == nil:
			if errors.Is(err, fs.ErrNotExist) {
				return true
			}
		case err != nil:
		case !n.ever, bytes.HasPrefix(got, n.synced):
			return true
		}
	}
	m.note("%s: %v, %d bytes; may be", name, err, len(got))
	for _, n := range b {
		if n == nil {
			m.note("  nothing")
		} else {
			m.note("  synced %v: %d bytes of %d", n.ever, len(n.synced), len(n.content))
		}
	}
	return false
}

func (m *model) verify(dir string) error {
	m.note("verify %s", dir)
	m.doubted[dir] = true
	return nil
}

// forgetful is an empty tree that knows what a power cut leaves of it.
func forgetful(t *testing.T) *vfs.Forgetful {
	t.Helper()
	return must(vfs.NewForgetful(must(vfs.Dir(memoryDir(t)))(t)))(t)
}

// recovered is what there is after a power cut, and the recovery from it.
func recovered(t *testing.T, memory *vfs.Forgetful) (root string) {
	t.Helper()
	root = memoryDir(t)
	check(t, memory.PowerCut(root))
	j := journal.New(must(vfs.Dir(root))(t), options("after"))
	check(t, j.Begin(never(t)), j.End(), j.Close())
	return root
}

func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "journal_test")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}
