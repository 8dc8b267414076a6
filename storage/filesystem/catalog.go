package filesystem

import (
	"context"
	"io/fs"
	"path"
	"sync"
	"time"

	"github.com/caddy-oci/oci-registry/internal/btree"
	"github.com/caddy-oci/oci-registry/oci"
)

// walkEvery is how old the catalog may be before a listing starts a new walk
// for what other tools have added or removed.
const walkEvery = time.Minute

// catalog is the set of repositories. The first listing walks the tree. From
// then on what this process adds is added, and what other tools add is found
// when it's first used, or by a walk in the background.
type catalog struct {
	store *Store

	walkMu sync.Mutex // one walk at a time

	mu      sync.Mutex
	set     *names    // nil before the first walk
	walked  time.Time // when the last walk began
	walking bool
	during  map[oci.Name]bool // what was added (true) or removed while a walk runs
}

// names are repositories in order.
type names = btree.Tree[btree.String, oci.Name]

// names returns the repositories.
func (c *catalog) names(ctx context.Context) (*names, error) {
	set, walked := c.get()
	if set == nil {
		c.walkMu.Lock()
		defer c.walkMu.Unlock()
		if set, _ = c.get(); set == nil {
			if err := c.walk(ctx); err != nil {
				return nil, err
			}
			set, _ = c.get()
		}
		return set, nil
	}
	if time.Since(walked) > walkEvery && c.walkMu.TryLock() {
		c.store.background.do(func(ctx context.Context) {
			defer c.walkMu.Unlock()
			if err := c.walk(ctx); err != nil && ctx.Err() == nil {
				c.store.log().Warn("repositories can't be listed", "error", err)
			}
		})
	}
	return set, nil
}

func (c *catalog) get() (*names, time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.set, c.walked
}

func (c *catalog) add(n oci.Name)    { c.change(n, true) }
func (c *catalog) remove(n oci.Name) { c.change(n, false) }

func (c *catalog) change(n oci.Name, exists bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.walking {
		c.during[n] = exists
	}
	if c.set != nil {
		c.set = with(c.set, n, exists)
	}
}

func with(set *names, n oci.Name, exists bool) *names {
	key := btree.String(n.String())
	if _, there := set.Get(key); there == exists {
		return set
	}
	e := set.Edit()
	if exists {
		e.Set(key, n)
	} else {
		e.Delete(key)
	}
	next := e.Tree()
	return &next
}

// walk finds all repositories, for who holds walkMu.
func (c *catalog) walk(ctx context.Context) error {
	c.mu.Lock()
	c.walking, c.during = true, make(map[oci.Name]bool)
	began := time.Now()
	c.mu.Unlock()

	found := names{}.Edit()
	err := c.descend(ctx, ".", func(n oci.Name) { found.Set(btree.String(n.String()), n) })
	if err == nil {
		err = c.store.present()
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	c.walking = false
	if err != nil {
		return err
	}
	walked := found.Tree()
	set := &walked
	for n, exists := range c.during {
		set = with(set, n, exists)
	}
	c.set, c.walked = set, began
	return nil
}

// descend calls found for each repository below dir. What's in blobs is never
// looked at. A symbolic link that stays inside the tree may be a repository, but
// what lies behind it has names of its own, and could be the link again.
func (c *catalog) descend(ctx context.Context, dir string, found func(oci.Name)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := c.store.fs.ReadDir(dir)
	if missing(err) && dir != "." {
		return nil // removed meanwhile
	}
	if err != nil {
		return err
	}
	if name, err := oci.ParseName(dir); err == nil && c.isRepository(name, entries) {
		found(name)
	}
	for _, e := range entries {
		name, err := oci.ParseName(path.Join(dir, e.Name()))
		switch {
		case err != nil:
		case e.IsDir():
			if err := c.descend(ctx, name.String(), found); err != nil {
				return err
			}
		case e.Type()&fs.ModeSymlink != 0:
			if behind, err := c.store.fs.ReadDir(name.String()); err == nil && c.isRepository(name, behind) {
				found(name)
			}
		}
	}
	return nil
}

// isRepository reports whether a folder with these entries is a repository: it
// has index.json, oci-layout, or, before its first manifest, blobs.
func (c *catalog) isRepository(n oci.Name, entries []fs.DirEntry) bool {
	blobs := false
	for _, e := range entries {
		switch e.Name() {
		case "index.json", "oci-layout":
			return true
		case "blobs":
			blobs = e.IsDir()
		}
	}
	if !blobs {
		return false
	}
	has, err := c.store.hasBlob(n)
	return has && err == nil
}
