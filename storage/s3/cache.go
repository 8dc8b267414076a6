package s3

import (
	"container/list"
	"sync"

	"github.com/caddy-oci/oci-registry/oci"
)

// cache has the repositories that somebody uses, and remembers those used last.
type cache struct {
	mu     sync.Mutex
	repos  map[oci.Name]*repo
	idle   list.List // of those that nobody uses, the one used last in front
	weight int       // of the idle ones
}

// usage is a repository's place in the cache.
type usage struct {
	users  int
	idle   *list.Element
	weight int
}

// Beyond these, what was used longest ago is forgotten. In memory a repository
// takes some ten times its weight.
const (
	maxIdle   = 1024
	maxWeight = 12 << 20 // bytes of records and segments
)

func (c *cache) acquire(s *Store, name oci.Name) *repo {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.repos[name]
	if r == nil {
		r = &repo{store: s, name: name.Clone()}
		c.repos[r.name] = r
	}
	if r.use.idle != nil {
		c.idle.Remove(r.use.idle)
		r.use.idle = nil
		c.weight -= r.use.weight
	}
	r.use.users++
	return r
}

func (c *cache) release(r *repo) {
	weight, worth := r.weight()
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.use.users--; r.use.users > 0 {
		return
	}
	if !worth {
		delete(c.repos, r.name)
		return
	}
	r.use.weight, r.use.idle = weight, c.idle.PushFront(r)
	c.weight += weight
	for c.idle.Len() > maxIdle || c.weight > maxWeight && c.idle.Len() > 1 {
		last, _ := c.idle.Remove(c.idle.Back()).(*repo)
		c.weight -= last.use.weight
		last.use.idle = nil
		delete(c.repos, last.name)
	}
}

// weight is how many bytes the state was read from. One of a repository that
// doesn't exist isn't worth keeping: names are for everybody to make up.
func (r *repo) weight() (bytes int, worth bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state == nil || !r.state.exists() {
		return 0, false
	}
	return sizeOf(r.state.head.Segments) + r.state.tailSize(), true
}
