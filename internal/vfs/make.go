package vfs

import "errors"

// Maker is an FS that makes a file in one step. It may not be able to in every
// directory: then it fails with errors.ErrUnsupported, and nothing has happened.
type Maker interface {
	// Make makes a file that holds data, of mode 0640 less the umask. Nobody sees it before
	// it's whole, and after a failure there's none. Neither its bytes nor its name are
	// durable. It fails with fs.ErrExist if the name is there.
	Make(name string, data []byte) error
}

// Make is Maker's, of an FS that may be none.
func Make(fsys FS, name string, data []byte) error {
	if m, ok := fsys.(Maker); ok {
		return m.Make(name, data)
	}
	return errors.ErrUnsupported
}

// Make implements Maker. It's a step that can fail, with nothing done.
func (f *Faulty) Make(name string, data []byte) error {
	if err := f.step("make", name, ""); err != nil {
		return err
	}
	return Make(f.FS, name, data)
}

// Make implements Maker. It's a step.
func (f *Fuse) Make(name string, data []byte) error {
	if err := f.step("make", name); err != nil {
		return err
	}
	return Make(f.FS, name, data)
}

// Make implements Maker.
func (f *Forgetful) Make(name string, data []byte) error {
	if err := Make(f.FS, name, data); err != nil {
		return err
	}
	_, err := f.node(name)
	return err
}

var _, _, _ Maker = (*Faulty)(nil), (*Fuse)(nil), (*Forgetful)(nil)
