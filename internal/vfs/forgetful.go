package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"
)

// Forgetful is an FS that knows what of it would survive a power cut, and is as
// hard on its user as POSIX allows: a name is there afterwards if its directory
// was synced since, and a file holds what it held when it was last synced,
// nothing if it never was. It syncs nothing itself.
type Forgetful struct {
	FS

	memory *memory // shared with the trees under it
}

var _ FS = (*Forgetful)(nil)

// memory is what is durable, by the numbers that files and directories get.
type memory struct {
	mu    sync.Mutex
	nodes []*node
}

// node is a file or directory. It's kept open, so that the file system gives
// its identity to no other one.
type node struct {
	info  fs.FileInfo
	pin   File
	data  []byte           // of a file, as it was last synced
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
		return &forgetfulFile{under, f.memory, n}, nil
	}
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
	dir, err := f.node(name)
	if err != nil {
		return err
	}
	entries, err := f.ReadDir(name)
	if err != nil {
		return err
	}
	names := make(map[string]*node)
	for _, e := range entries {
		n, err := f.node(path.Join(name, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return err
		}
		names[e.Name()] = n
	}
	f.memory.mu.Lock()
	defer f.memory.mu.Unlock()
	dir.names = names
	return nil
}

// PowerCut makes, in the empty directory to, what would be there after one.
// Nothing may be going on in the tree.
func (f *Forgetful) PowerCut(to string) error {
	root, err := f.node(".")
	if err != nil {
		return err
	}
	return root.restore(to, make(map[*node]string))
}

// restore makes the entries of a directory. made has the files that are there already.
func (n *node) restore(to string, made map[*node]string) error {
	for name, child := range n.names {
		at := filepath.Join(to, name)
		var err error
		switch first, linked := made[child]; {
		case child.info.IsDir():
			if err = os.Mkdir(at, 0o700); err == nil {
				err = child.restore(at, made)
			}
		case linked:
			err = os.Link(first, at)
		default:
			made[child] = at
			err = os.WriteFile(at, child.data, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
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

// forgetfulFile is a file of a Forgetful.
type forgetfulFile struct {
	File

	memory *memory
	node   *node
}

func (f *forgetfulFile) Sync() error {
	data, err := io.ReadAll(io.NewSectionReader(f.File, 0, 1<<62))
	if err != nil {
		return err
	}
	f.memory.mu.Lock()
	defer f.memory.mu.Unlock()
	f.node.data = data
	return nil
}
