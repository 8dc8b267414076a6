package tasks

import (
	"fmt"
	"time"
)

// A Window is a part of each day, as clocks on the wall show it: from From up to
// To, both counted from midnight. If To isn't after From it reaches over
// midnight. The zero Window is the whole day.
type Window struct {
	From time.Duration `json:"from"`
	To   time.Duration `json:"to"`
}

const day = 24 * time.Hour

// ParseWindow reads times such as 22:00 and 06:00. They must differ.
func ParseWindow(from, to string) (Window, error) {
	f, err := parseClock(from)
	if err != nil {
		return Window{}, err
	}
	t, err := parseClock(to)
	if err != nil {
		return Window{}, err
	}
	if f == t {
		return Window{}, fmt.Errorf("a window from %s to %s is empty; leave it out for the whole day", from, to)
	}
	return Window{f, t}, nil
}

func parseClock(s string) (time.Duration, error) {
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0, fmt.Errorf("%q is no time of day such as 22:00", s)
	}
	return clockOf(t), nil
}

// clockOf returns what a clock on the wall shows at t.
func clockOf(t time.Time) time.Duration {
	h, m, s := t.Clock()
	return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute + time.Duration(s)*time.Second
}

func (w Window) contains(t time.Time) bool {
	c := clockOf(t)
	if w.From < w.To {
		return w.From <= c && c < w.To
	}
	return w.From <= c || c < w.To
}

// opens returns the first opening after t. On a day whose clocks jump over it
// that may lie outside of the window.
func (w Window) opens(t time.Time) time.Time {
	h, m := int(w.From/time.Hour), int(w.From%time.Hour/time.Minute)
	y, month, d := t.Date()
	if today := time.Date(y, month, d, h, m, 0, 0, t.Location()); today.After(t) {
		return today
	}
	return time.Date(y, month, d+1, h, m, 0, 0, t.Location())
}

// length returns how long the window is open each day.
func (w Window) length() time.Duration {
	if w.From < w.To {
		return w.To - w.From
	}
	return w.To - w.From + day
}
