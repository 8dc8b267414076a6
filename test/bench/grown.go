//go:build real

package bench

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
)

// grown is a repository that has been filled with tags, each of an image of its own.
type grown struct {
	stored

	tags int
}

// grow gives the repository tags until it has so many.
func (g *grown) grow(s *system, tags int) error {
	var wg sync.WaitGroup
	const pushers = 8
	errs := make([]error, pushers)
	for i := range pushers {
		wg.Go(func() {
			c := &client{conn: conn{addr: s.addr, host: s.addr}, sys: s}
			defer c.close()
			for n := g.tags + i; n < tags && errs[i] == nil; n += pushers {
				errs[i] = c.pushManifest(g.repo, tagName(n), g.sibling(s.next()))
			}
		})
	}
	wg.Wait()
	g.tags = max(g.tags, tags)
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func tagName(n int) string { return fmt.Sprintf("v%06d", n) }

// fill pushes the first tag of the system's repository, if it's not there yet, and
// grows it. That of single stays as it is.
func fill(c *client, tags int, repos map[*system]*grown) (*grown, error) {
	g := repos[c.sys]
	if g == nil {
		g = &grown{stored: stored{c.sys.repo("tags"), newPicture(c.sys.next(), smallLayer)}}
		if err := c.push(g.repo, tagName(0), g.picture); err != nil {
			return nil, err
		}
		g.tags, repos[c.sys] = 1, g
	}
	if c.sys.name == single {
		return g, nil
	}
	return g, g.grow(c.sys, tags)
}

// atTags are the workloads of a repository with so many tags. They share one
// repository a system, which grows. Other systems than ours have the shared size only,
// but for single, which is beside the largest size.
func atTags(tags int, sz size, repos map[*system]*grown) []workload {
	prepare := func(c *client) error {
		g, err := fill(c, tags, repos)
		c.state = g
		return err
	}
	middle := func(c *client) string {
		g := stateOf[*grown](c)
		return "/v2/" + g.repo + "/manifests/" + tagName(g.tags/2)
	}
	all := []workload{
		one(atSize("HEAD manifest", tags), prepare, http.MethodHead, acceptMany, middle),
		one(atSize("GET manifest", tags), prepare, http.MethodGet, acceptMany, middle),
		one(atSize("list tags", tags), prepare, http.MethodGet, "", func(c *client) string {
			return "/v2/" + stateOf[*grown](c).repo + "/tags/list?n=100"
		}),
		{
			name: atSize("push tag", tags), unit: "tags", prepare: prepare,
			op: func(c *client) (int, error) {
				g := stateOf[*grown](c)
				n := c.sys.next()
				return 0, c.pushManifest(g.repo, fmt.Sprintf("w%d", n), g.sibling(n))
			},
		},
	}
	for i := range all {
		manifest := i < 2
		all[i].on = func(s *system) bool {
			return s.name == synced || s.name == single && manifest && tags == sz.most() || s.name != single && tags == sz.shared
		}
	}
	return all
}

// atSize is the name of a workload in a repository with so many tags.
func atSize(workload string, tags int) string { return fmt.Sprintf("%s at %d tags", workload, tags) }

// largeOnlyOurs leaves a size to this registry that would take others hours.
func largeOnlyOurs(size, most int) func(*system) bool {
	if size <= most {
		return nil
	}
	return only(synced)
}

// catalog lists a registry of so many repositories, a hundred at a time.
func catalog(repos int) workload {
	w := one(fmt.Sprintf("catalog of %d", repos), func(c *client) error {
		p := newPicture(c.sys.next(), smallLayer)
		err := c.offers("/v2/_catalog")
		for n := 0; n < repos && err == nil; n++ {
			err = c.push(c.sys.repo("catalog"), "latest", p)
		}
		return err
	}, http.MethodGet, "", func(*client) string { return "/v2/_catalog?n=100" })
	return w
}

// referrers lists the referrers of an image that has so many, as a client asks
// for them: the first page. Ours are asked for n at a time too.
func referrers(refs int, query string) workload {
	w := one(fmt.Sprintf("%d referrers%s", refs, strings.ReplaceAll(query, "?", " ")), func(c *client) error {
		s := stored{c.sys.repo("referrers"), newPicture(c.sys.next(), smallLayer)}
		c.state = s
		if err := c.push(s.repo, "latest", s.picture); err != nil {
			return err
		}
		if err := c.offers("/v2/" + s.repo + "/referrers/" + s.manifest.digest.String()); err != nil {
			return err
		}
		if err := c.pushBlob(s.repo, emptyJSON); err != nil {
			return err
		}
		for range refs {
			m := s.referrer(c.sys.next())
			if err := c.pushManifest(s.repo, m.digest.String(), m); err != nil {
				return err
			}
		}
		return nil
	}, http.MethodGet, "", func(c *client) string {
		s := stateOf[stored](c)
		return "/v2/" + s.repo + "/referrers/" + s.manifest.digest.String() + query
	})
	w.on = largeOnlyOurs(refs, 200)
	return w
}
