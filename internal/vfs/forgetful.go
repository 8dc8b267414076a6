package vfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"
)

// Forgetful is an FS that knows what of it would survive a power cut, and is as
// hard on its user as POSIX allows: a name is there afterwards if its directory
// was synced since, and a file holds what it held when it was last synced,
// nothing if it never was. Of what came later any part may be there as well, in
// any order. It syncs nothing itself.
type Forgetful struct {
	FS

	memory *memory // shared with the trees under it
}

var (
	_ FS    = (*Forgetful)(nil)
	_ Maker = (*Forgetful)(nil)
)

// memory is what is durable, by the numbers that files and directories get.
type memory struct {
	one   sync.Mutex // one sync at a time looks at what there is and notes it
	mu    sync.Mutex
	nodes []*node
	fail  func(name string) error // see FailSync
}

// node is a file or directory. It's kept open, so that the file system gives
// its identity to no other one, and so that it can be read after its removal.
type node struct {
	info  fs.FileInfo
	pin   File
	data  []byte           // of a file, as it was last synced
	lost  map[int]bool     // its blocks that no sync writes any more, unless they're written again
	names map[string]*node // of a directory, as it was last synced
}

// NewForgetful takes what is in under for durable. Closing it closes under.
func NewForgetful(under FS) (*Forgetful, error) {
	f := &Forgetful{FS: under, memory: new(memory)}
	return f, f.learn(".")
}

// learn takes everything under a directory for durable.
func (f *Forgetful) learn(dir string) error {
	entries, err := f.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if e.IsDir() {
			err = f.learn(name)
		} else {
			err = f.learnFile(name)
		}
		if err != nil {
			return err
		}
	}
	return f.SyncDir(dir)
}

func (f *Forgetful) learnFile(name string) error {
	file, err := f.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// node returns what is known of a file or directory of this tree.
func (f *Forgetful) node(name string) (*node, error) {
	info, err := f.Stat(name)
	if err != nil {
		return nil, err
	}
	m := f.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.nodes {
		if SameFile(n.info, info) {
			return n, nil
		}
	}
	pin, err := f.FS.Open(name)
	if err != nil {
		return nil, err
	}
	n := &node{info: info, pin: pin}
	m.nodes = append(m.nodes, n)
	return n, nil
}

// Open implements FS.
func (f *Forgetful) Open(name string) (File, error) { return f.file(name)(f.FS.Open(name)) }

// OpenFile implements FS. A file for writing can be read as well, by Sync.
func (f *Forgetful) OpenFile(name string, flag int) (File, error) {
	if flag&os.O_WRONLY != 0 {
		flag = flag&^os.O_WRONLY | os.O_RDWR
	}
	return f.file(name)(f.FS.OpenFile(name, flag))
}

func (f *Forgetful) file(name string) func(File, error) (File, error) {
	return func(under File, err error) (File, error) {
		if err != nil {
			return nil, err
		}
		n, err := f.node(name)
		if err != nil {
			return nil, errors.Join(err, under.Close())
		}
		return &forgetfulFile{under, f.memory, n, name}, nil
	}
}

// Make implements Maker.
func (f *Forgetful) Make(name string, data []byte) error {
	if err := Make(f.FS, name, data); err != nil {
		return err
	}
	_, err := f.node(name)
	return err
}

// Mkdir implements FS.
func (f *Forgetful) Mkdir(name string) error {
	if err := f.FS.Mkdir(name); err != nil {
		return err
	}
	_, err := f.node(name)
	return err
}

// Sub implements FS.
func (f *Forgetful) Sub(name string) (FS, error) {
	sub, err := f.FS.Sub(name)
	if err != nil {
		return nil, err
	}
	return &Forgetful{FS: sub, memory: f.memory}, nil
}

// SyncDir implements FS.
func (f *Forgetful) SyncDir(name string) error {
	f.memory.one.Lock()
	defer f.memory.one.Unlock()
	dir, err := f.node(name)
	if err != nil {
		return err
	}
	names, err := f.entries(dir, name)
	if err != nil {
		return err
	}
	f.memory.mu.Lock()
	defer f.memory.mu.Unlock()
	dir.names = names
	return nil
}

// FailSync makes a file's Sync ask fail, and fail if that returns an error. Then
// what it should have made durable is lost, as on Linux: the pages count as
// clean, and the next Sync succeeds without writing them. It isn't to be called
// while the tree is used.
func (f *Forgetful) FailSync(fail func(name string) error) { f.memory.fail = fail }

// entries are what a directory has now, nothing if it isn't there any more.
func (f *Forgetful) entries(dir *node, name string) (map[string]*node, error) {
	now, err := f.Stat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !SameFile(now, dir.info) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := f.ReadDir(name)
	if err != nil {
		return nil, err
	}
	names := make(map[string]*node)
	for _, e := range entries {
		n, err := f.node(path.Join(name, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		names[e.Name()] = n
	}
	return names, nil
}

// Forget releases what the tree keeps open. It comes after PowerCut and Close.
func (f *Forgetful) Forget() error {
	f.memory.mu.Lock()
	defer f.memory.mu.Unlock()
	errs := make([]error, 0, len(f.memory.nodes))
	for _, n := range f.memory.nodes {
		errs = append(errs, n.pin.Close())
	}
	f.memory.nodes = nil
	return errors.Join(errs...)
}

// content is all that a file holds now. Somebody may be cutting it.
func (n *node) content() ([]byte, error) {
	fi, err := n.pin.Stat()
	if err != nil {
		return nil, err
	}
	data := make([]byte, fi.Size())
	have, err := io.ReadFull(io.NewSectionReader(n.pin, 0, fi.Size()), data)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = nil // it's shorter by now
	}
	return data[:have], err
}

// forgetfulFile is a file of a Forgetful.
type forgetfulFile struct {
	File

	memory *memory
	node   *node
	name   string
}

// Write gives a block that a failed Sync has lost another chance.
func (f *forgetfulFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	end, serr := f.Seek(0, io.SeekCurrent)
	if err = errors.Join(err, serr); n == 0 || err != nil {
		return n, err
	}
	f.memory.mu.Lock()
	defer f.memory.mu.Unlock()
	for b := (int(end) - n) / block; b <= (int(end)-1)/block; b++ {
		delete(f.node.lost, b)
	}
	return n, nil
}

func (f *forgetfulFile) Sync() error {
	f.memory.one.Lock()
	defer f.memory.one.Unlock()
	now, err := f.node.content()
	if err != nil {
		return err
	}
	f.memory.mu.Lock()
	defer f.memory.mu.Unlock()
	if f.memory.fail != nil {
		err = f.memory.fail(f.name)
	}
	f.node.sync(now, err != nil)
	return err
}

// sync makes durable what can be, or loses it.
func (n *node) sync(now []byte, fails bool) {
	if n.lost == nil {
		n.lost = make(map[int]bool)
	}
	next := make([]byte, len(now))
	copy(next, n.data)
	for at := 0; at < len(now); at += block {
		switch changed := !bytes.Equal(slice(n.data, at), slice(now, at)); {
		case changed && fails:
			n.lost[at/block] = true
		case !n.lost[at/block]:
			copy(next[at:], slice(now, at))
		}
	}
	if !fails {
		n.data = next
	}
}
