package htpasswd

import "sync/atomic"

// Counted returns what says how often each hash of the file was compared with a
// password since, in the file's order.
func Counted(f *File) func() []int64 {
	all := f.users.Load().list
	counts := make([]atomic.Int64, len(all))
	for i, u := range all {
		u.hash = counted{u.hash, &counts[i]}
	}
	return func() []int64 {
		var n []int64
		for i := range counts {
			n = append(n, counts[i].Swap(0))
		}
		return n
	}
}

type counted struct {
	hash

	n *atomic.Int64
}

func (c counted) matches(password string) bool {
	c.n.Add(1)
	return c.hash.matches(password)
}

// Parse says what's wrong with a content.
func Parse(content string) error {
	_, err := parse([]byte(content))
	return err
}
