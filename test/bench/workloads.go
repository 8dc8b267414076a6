//go:build real

package bench

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
)

// Sizes of what small images are made of, in bytes.
const smallLayer = 16 << 10

// pushSmall pushes images of three layers, each client to its own repository.
func pushSmall() workload {
	return workload{
		name: "push small", unit: "images", clients: 8,
		op: func(c *client) (int, error) {
			if c.state == nil {
				c.state = c.sys.repo("push")
			}
			p := newPicture(c.sys.next(), smallLayer, smallLayer, smallLayer)
			return p.size(), c.push(stateOf[string](c), fmt.Sprintf("v%d", c.rounds), p)
		},
	}
}

// pushLarge pushes one blob in one stream. It's deleted so that the next push has to
// write it again. Not every registry deletes; one that doesn't may not write it again.
func pushLarge(size int) workload {
	type pushed struct {
		repo string
		blob
	}
	return workload{
		name: "push large", unit: "MB",
		prepare: func(c *client) error {
			c.state = &pushed{blob: newLarge(0, size)} // hashing it is the client's work, and not measured
			return nil
		},
		op: func(c *client) (int, error) {
			p := stateOf[*pushed](c)
			p.repo = c.sys.repo("large")
			return p.size(), c.pushBlob(p.repo, p.blob)
		},
		undo: func(c *client) error {
			p := stateOf[*pushed](c)
			_, err := c.do(http.MethodDelete, "/v2/"+p.repo+"/blobs/"+p.digest.String(), "", nil, nil)
			return err
		},
	}
}

// pullLarge gets one blob in one stream.
func pullLarge(size int) workload {
	type large struct {
		repo string
		blob
	}
	return workload{
		name: "pull large", unit: "MB",
		prepare: func(c *client) error {
			l := large{c.sys.repo("large"), newLarge(c.sys.next(), size)}
			c.state = l
			if err := c.pushBlob(l.repo, l.blob); err != nil {
				return err
			}
			return c.check("/v2/"+l.repo+"/blobs/"+l.digest.String(), "", l.blob)
		},
		op: func(c *client) (int, error) {
			l := stateOf[large](c)
			return c.pullBlob(l.repo, l.blob)
		},
	}
}

// stored is an image that is there.
type stored struct {
	repo string
	*picture
}

func storeSmall(workload string) func(*client) error {
	return func(c *client) error {
		s := stored{c.sys.repo(workload), newPicture(c.sys.next(), smallLayer, smallLayer, smallLayer)}
		c.state = s
		if err := c.push(s.repo, "latest", s.picture); err != nil {
			return err
		}
		return c.check("/v2/"+s.repo+"/manifests/latest", acceptMany, s.manifest)
	}
}

// pullSmall gets an image of three layers.
func pullSmall() workload {
	return workload{
		name: "pull small", unit: "images", clients: 8, prepare: storeSmall("pull"),
		op: func(c *client) (int, error) {
			s := stateOf[stored](c)
			return c.pull(s.repo, "latest", s.picture)
		},
	}
}

// one is a workload of a single request, again and again.
func one(name string, prepare func(*client) error, method, header string, path func(*client) string) workload {
	return workload{
		name: name, unit: "requests", clients: 8, prepare: prepare,
		op: func(c *client) (int, error) {
			rep, err := c.want(http.StatusOK, method, path(c), header, nil)
			return int(rep.length), err
		},
	}
}

func latest(c *client) string { return "/v2/" + stateOf[stored](c).repo + "/manifests/latest" }

// headManifest asks the site beside the registry, too: what Caddy itself costs.
func headManifest() workload {
	store := storeSmall("head")
	return one("HEAD manifest", func(c *client) error {
		if c.sys.name != responding {
			return store(c)
		}
		c.host, c.state = "respond.localhost", stored{repo: c.sys.repo("head")}
		return nil
	}, http.MethodHead, acceptMany, latest)
}

func getManifest() workload {
	return one("GET manifest", storeSmall("get"), http.MethodGet, acceptMany, latest)
}

func headBlob() workload {
	return one("HEAD blob", storeSmall("blob"), http.MethodHead, "", func(c *client) string {
		s := stateOf[stored](c)
		return "/v2/" + s.repo + "/blobs/" + s.blobs[1].digest.String()
	})
}

// mixed is what a registry of a public cloud was seen to do (Anwar et al.,
// "Improving Docker Registry Design Based on Production Workload Analysis",
// FAST'18): 95 % of the requests read, 65 % of the layers are smaller than
// 1 MB, and a few images are pulled most.
func mixed(images int) workload {
	type trace struct {
		images []stored
		rng    *rand.Rand
		zipf   *rand.Zipf
	}
	begin := func(images []stored, seed uint64) *trace {
		rng := rand.New(rand.NewPCG(seed, 18))
		return &trace{images, rng, rand.NewZipf(rng, 1.2, 1, uint64(len(images)-1))}
	}
	return workload{
		name: "mixed", unit: "images", clients: 8,
		prepare: func(c *client) error {
			rng := rand.New(rand.NewPCG(2018, 1))
			var all []stored
			for range images {
				s := stored{c.sys.repo("mixed"), newPicture(c.sys.next(), layerSizes(rng)...)}
				if err := c.push(s.repo, "latest", s.picture); err != nil {
					return err
				}
				all = append(all, s)
			}
			c.state = all
			return nil
		},
		op: func(c *client) (int, error) {
			t := stateOf[*trace](c)
			if t == nil {
				t = begin(stateOf[[]stored](c), uint64(c.n))
				c.state = t
			}
			if t.rng.IntN(100) < 5 {
				p := newPicture(c.sys.next(), layerSizes(t.rng)...)
				return p.size(), c.push(t.images[t.zipf.Uint64()].repo, fmt.Sprintf("v%d", c.sys.next()), p)
			}
			s := t.images[t.zipf.Uint64()]
			return c.pull(s.repo, "latest", s.picture)
		},
	}
}

// layerSizes draws the sizes of three layers, in bytes: 65 % below 1 MB, and
// none above 16 MB.
func layerSizes(rng *rand.Rand) []int {
	sizes := make([]int, 3)
	for i := range sizes {
		low, high := 1e3, 1e6
		if rng.IntN(100) >= 65 {
			low, high = 1e6, 16e6
		}
		sizes[i] = int(low * math.Pow(high/low, rng.Float64())) // as many between 1 and 10 as between 10 and 100
	}
	return sizes
}
