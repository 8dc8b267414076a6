package main

import (
	"runtime"
	"testing"
)

// One thread more than there are processors runs Go code, unless somebody has said how
// many do, or a container has fewer processors than the machine.
func TestOneMore(t *testing.T) {
	n := runtime.NumCPU()
	before := runtime.GOMAXPROCS(n)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
	for _, c := range []struct {
		name, env        string
		processors, want int
	}{
		{"by itself", "", n, n + 1},
		{"by GOMAXPROCS", "3", n, n},
		{"by a share of a larger machine", "", n + 2, n + 2},
	} {
		runtime.GOMAXPROCS(c.processors)
		t.Setenv("GOMAXPROCS", c.env)
		oneMore()
		if got := runtime.GOMAXPROCS(0); got != c.want {
			t.Errorf("%s: %d threads, want %d", c.name, got, c.want)
		}
	}
}
