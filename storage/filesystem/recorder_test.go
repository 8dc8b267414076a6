package filesystem_test

import (
	"slices"
	"strings"
	"sync"

	"github.com/caddy-oci/oci-registry/internal/vfs"
)

// recorder notes the steps of a store.
type recorder struct {
	mu    sync.Mutex
	steps []vfs.Step
}

func (r *recorder) step(s vfs.Step) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.steps = append(r.steps, s)
	return nil
}

func (r *recorder) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.steps = nil
}

// first is when op was first done to a name, or -1.
func (r *recorder) first(op, name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.IndexFunc(r.steps, func(s vfs.Step) bool { return s.Op == op && s.Name == name })
}

// ops are the names that op was done to, but for those of the reserve.
func (r *recorder) ops(op string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for _, s := range r.steps {
		if s.Op == op && !strings.HasPrefix(s.Name, "_reserve") {
			names = append(names, s.Name)
		}
	}
	return names
}
