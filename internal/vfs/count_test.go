package vfs

import (
	"errors"
	"io/fs"
	"strconv"
	"testing"
)

func TestCount(t *testing.T) {
	t.Parallel()
	d := dirOf(t)
	do(t, d.Mkdir("many"), d.Mkdir("none"))
	for i := range 1000 {
		do(t, create(t, d, "many/"+strconv.Itoa(i), "").Close())
	}
	for name, fsys := range map[string]FS{
		"bare":    d,
		"wrapped": NewFaulty(d, func(Step) error { return nil }), // whose files only do what a File does
	} {
		for dir, want := range map[string]int{"many": 1000, "none": 0, ".": 2} {
			if got, err := Count(fsys, dir); got != want || err != nil {
				t.Errorf("%s %s: %d, %v, want %d", name, dir, got, err, want)
			}
		}
		if _, err := Count(fsys, "missing"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: of what isn't there: error %v", name, err)
		}
	}
}
