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
