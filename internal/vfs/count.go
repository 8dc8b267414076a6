package vfs

import "errors"

// Count returns how many entries a directory has. It's cheaper than ReadDir,
// for which os looks at each entry in a tree that no name can leave.
func Count(fsys FS, dir string) (int, error) {
	f, err := fsys.Open(dir)
	if err != nil {
		return 0, err
	}
	if d, ok := f.(interface{ Readdirnames(n int) ([]string, error) }); ok {
		names, rerr := d.Readdirnames(-1)
		return len(names), errors.Join(rerr, f.Close())
	}
	entries, err := fsys.ReadDir(dir)
	return len(entries), errors.Join(err, f.Close())
}
