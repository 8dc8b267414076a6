// Package journal makes many small files durable with one sync. It is a file
// system over another one, in which Sync and SyncDir promise what they promise
// everywhere, and mostly don't touch the disk where the file is: what they make
// durable is written behind each other into one file, and all that wait are
// served by one sync of that. Later, when nobody waits, the files themselves are
// synced, and the journal begins anew. After a power cut what it says is done
// again.
//
// It's for a tree that one process writes to, with files that are written, synced
// and given their names, and files that are appended to.
package journal

import (
	"io/fs"
	"log/slog"
	"path"
	"time"

	"github.com/caddy-oci/oci-registry/internal/vfs"
)

// Options tune a journal. The zero value is right for most.
type Options struct {
	// Limit is how large each of the journal's two files may become, in bytes.
	// Default: 32 MiB.
	Limit int64

	// After is how long an operation may wait until its file itself is synced.
	// Systems write files by themselves within about 30 seconds, and then there's
	// little left to do. Default: 40 seconds.
	After time.Duration

	// Boot tells one boot of the machine from another: in the same one nothing is
	// lost that was written, so nothing is done again. Default: empty, and then it
	// always is.
	Boot string

	// Identity tells a file from its copy; false if that can't be told. Default: never.
	Identity func(fs.FileInfo) (device, inode uint64, ok bool)

	// Log gets what an operator should know. Default: nothing.
	Log *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.Limit == 0 {
		o.Limit = 32 << 20
	}
	if o.After == 0 {
		o.After = 40 * time.Second
	}
	if o.Identity == nil {
		o.Identity = func(fs.FileInfo) (uint64, uint64, bool) { return 0, 0, false }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// FS is a vfs.FS with a journal between Begin and End. Before and after it's
// what is below.
//
// Names that end up on one file through Link are taken for files of their own:
// what is changed through one of them afterwards must not be synced through it.
type FS struct {
	vfs.FS

	tree *tree
	dir  string // of a Sub
}

var _ vfs.FS = (*FS)(nil)

// New returns a file system over under. Closing it closes under. It does no I/O.
func New(under vfs.FS, opts Options) *FS {
	t := &tree{under: under, opts: opts.withDefaults(), dirty: make(map[string]int64), making: make(map[string]int)}
	t.reset()
	return &FS{FS: under, tree: t, dir: "."}
}

// name is what a name is in the whole tree.
func (f *FS) name(name string) string { return path.Join(f.dir, name) }

// Sub implements vfs.FS.
func (f *FS) Sub(name string) (vfs.FS, error) {
	sub, err := f.FS.Sub(name)
	if err != nil {
		return nil, err
	}
	return &FS{FS: sub, tree: f.tree, dir: f.name(name)}, nil
}

// Close implements vfs.FS. What End couldn't make durable is left to the next Begin.
func (f *FS) Close() error {
	if f.dir == "." {
		f.tree.giveUp()
	}
	return f.FS.Close()
}

// Rename implements vfs.FS. It happens once everything is durable that was recorded
// before, as after a Barrier, unless the new name is in a directory that's in doubt.
// What is synced by the new name is by that alone: if a power cut brings back the old
// one, before its directory is synced, it has what was synced by then.
func (f *FS) Rename(from, to string) error {
	if err := f.tree.letGoUnless(f.name(to), f.tree.isInOneLog); err != nil {
		return err
	}
	return f.tree.move(opRename, f.name(from), f.name(to), func() error { return f.FS.Rename(from, to) })
}

// Link implements vfs.FS.
func (f *FS) Link(from, to string) error {
	return f.tree.move(opLink, f.name(from), f.name(to), func() error { return f.FS.Link(from, to) })
}

// Remove implements vfs.FS.
func (f *FS) Remove(name string) error {
	if err := f.tree.letGo(f.name(name)); err != nil {
		return err
	}
	return f.tree.change(f.name(name), "", func() error { return f.FS.Remove(name) },
		func(t *tree) { t.gone(f.name(name)) })
}

// Mkdir implements vfs.FS.
func (f *FS) Mkdir(name string) error {
	return f.tree.change(f.name(name), "", func() error { return f.FS.Mkdir(name) },
		func(t *tree) { t.dirMade(f.name(name)) })
}

// SyncDir implements vfs.FS. Names that were there before Begin, or that somebody
// else has made, are durable after the first one of a directory.
func (f *FS) SyncDir(name string) error {
	seq, err := f.tree.syncDir(f.name(name))
	if err != nil {
		return err
	}
	return f.tree.wait(seq)
}

// SyncDirLater is SyncDir that doesn't wait for the journal: when anything
// recorded later is durable, the names are as well.
func (f *FS) SyncDirLater(name string) error {
	_, err := f.tree.syncDir(f.name(name))
	return err
}

// Barrier returns once everything is durable that was recorded before: by
// SyncLater, SyncDirLater, or Sync and SyncDir of others.
func (f *FS) Barrier() error { return f.tree.barrier() }

// Others says that somebody else may have given a name: the next SyncDir of its
// directory makes that durable too, and what the journal says of it counts no more.
func (f *FS) Others(name string) {
	t := f.tree
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.on && !t.files[f.name(name)].complete() {
		t.pend(f.name(name))
	}
}

// Doubt says that files in a directory get their names before their bytes are
// durable. When it has returned, a power cut may leave such files torn, and Begin
// hands over the directory to have them found.
func (f *FS) Doubt(name string) error { return f.tree.doubt(f.name(name)) }

// Later reports whether SyncLater and Doubt save anything at the moment.
func (f *FS) Later() bool {
	f.tree.mu.Lock()
	defer f.tree.mu.Unlock()
	return f.tree.on
}
