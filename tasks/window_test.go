package tasks_test

import (
	"testing"

	"github.com/caddy-oci/oci-registry/tasks"
)

func TestParseWindow(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from, to string
		want     tasks.Window
		ok       bool
	}{
		{"22:00", "06:00", tasks.Window{From: 22 * hour, To: 6 * hour}, true},
		{"00:00", "23:59", tasks.Window{To: 23*hour + 59*minute}, true},
		{"22:00", "22:00", tasks.Window{}, false},
		{"24:00", "06:00", tasks.Window{}, false},
		{"22:00", "6", tasks.Window{}, false},
		{"", "06:00", tasks.Window{}, false},
	} {
		got, err := tasks.ParseWindow(c.from, c.to)
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("%s to %s: got %v, %v", c.from, c.to, got, err)
		}
	}
}
