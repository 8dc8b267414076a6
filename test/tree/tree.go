//go:build real

// Package tree takes pictures of folders, to show that nobody has touched them.
package tree

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// File is what is compared of a file or folder.
type File struct {
	Inode   uint64
	Mode    fs.FileMode
	Size    int64 // 0 for a folder
	Changed time.Time
	Content [sha256.Size]byte // zero for a folder
}

// Tree is a picture of all files and folders below one, by relative path.
type Tree map[string]File

// Read takes a picture of the folder dir.
func Read(t *testing.T, dir string) Tree {
	t.Helper()
	tree := make(Tree)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		tree[name], err = read(path, d)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func read(path string, d fs.DirEntry) (File, error) {
	fi, err := d.Info()
	if err != nil {
		return File{}, err
	}
	stat, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return File{}, errors.New("no inode numbers on this system")
	}
	f := File{Inode: stat.Ino, Mode: fi.Mode(), Changed: fi.ModTime()}
	if !fi.Mode().IsRegular() {
		return f, nil
	}
	content, err := os.ReadFile(path)
	f.Size, f.Content = fi.Size(), sha256.Sum256(content)
	return f, err
}

// Diff says in what now differs from before, a line for each path.
func Diff(before, now Tree) []string {
	var lines []string
	for _, path := range slices.Sorted(maps.Keys(before)) {
		if f, ok := now[path]; !ok {
			lines = append(lines, path+" is gone")
		} else if was := before[path]; f != was {
			lines = append(lines, fmt.Sprintf("%s was %s, is %s", path, was, f))
		}
	}
	for _, path := range slices.Sorted(maps.Keys(now)) {
		if _, ok := before[path]; !ok {
			lines = append(lines, path+" is new")
		}
	}
	return lines
}

// String describes the file in a line of Diff.
func (f File) String() string {
	return fmt.Sprintf("{inode %d, %s, %d bytes, changed %s, sha256 %x}", f.Inode, f.Mode, f.Size, f.Changed.Format("15:04:05.000000000"), f.Content[:4])
}

// Copy copies the folder from to the folder to, but for what the relative paths
// given name.
func Copy(t *testing.T, to, from string, but ...string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	for _, name := range but {
		if err := os.RemoveAll(filepath.Join(to, name)); err != nil {
			t.Fatal(err)
		}
	}
}
