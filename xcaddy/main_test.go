package main

import "testing"

// One thread more than there are processors runs Go code, unless somebody has said how
// many do, or a quota allows fewer.
func TestThreads(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name            string
		processors, now int
		setting         string
		want            int
	}{
		{"by itself", 8, 8, "", 9},
		{"one processor", 1, 1, "", 2},
		{"by GOMAXPROCS", 8, 8, "8", 8},
		{"by GOMAXPROCS, fewer", 8, 3, "3", 3},
		{"by a quota", 8, 2, "", 2},
	} {
		if got := threads(c.processors, c.now, c.setting); got != c.want {
			t.Errorf("%s: %d threads, want %d", c.name, got, c.want)
		}
	}
}
