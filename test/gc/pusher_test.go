//go:build real

package gc_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/ledger"
	"github.com/caddy-oci/oci-registry/test/remote"
)

var repositories = []string{"app", "team/app", "team/other"}

// sharedLayers are what images of all pushers have: at any time some image has one,
// or none does.
const sharedLayers = 12

// pusher is a client with tags of its own.
type pusher struct {
	world  *world
	number int
	luck   *rand.Rand
	pushed int
	tags   map[ledger.Tag]digest.Digest
}

func newPusher(w *world, number int) *pusher {
	return &pusher{
		world: w, number: number, luck: rand.New(rand.NewPCG(uint64(number), 1)), tags: make(map[ledger.Tag]digest.Digest),
	}
}

// turn does one thing, as a client does that may rely on what it was told.
func (p *pusher) turn(ctx context.Context) error {
	servers := p.world.servers
	srv := &servers[p.luck.IntN(len(servers))].Registry
	tag := ledger.Tag{
		Repository: repositories[p.luck.IntN(len(repositories))],
		Name:       fmt.Sprintf("tag-%d-%d", p.number, p.luck.IntN(3)),
	}
	r := srv.Repository(tag.Repository)
	if d := p.tags[tag]; d != "" && p.luck.IntN(3) == 0 {
		return p.remove(ctx, r, tag, d)
	}
	return p.push(ctx, r, tag)
}

// remove removes a tag, or its manifest.
func (p *pusher) remove(ctx context.Context, r *remote.Repository, tag ledger.Tag, d digest.Digest) error {
	ref := tag.Name
	if p.luck.IntN(2) == 0 {
		ref = d.String()
	}
	acknowledge := p.world.ledger.Begin(tag, "")
	if err := r.DeleteManifest(ctx, ref); err != nil {
		return err
	}
	acknowledge()
	delete(p.tags, tag)
	return nil
}

// push pushes an image that nobody has, of layers that others have, too.
func (p *pusher) push(ctx context.Context, r *remote.Repository, tag ledger.Tag) error {
	c := p.content()
	if p.luck.IntN(3) == 0 {
		if err := p.mount(ctx, r, c.Blobs[0].Digest); err != nil {
			return err
		}
	}
	acknowledge := p.world.ledger.Begin(tag, c.Digest)
	if err := r.Push(ctx, c, tag.Name); err != nil {
		return err
	}
	acknowledge()
	p.tags[tag] = c.Digest
	parts := partsOf(c)
	if p.luck.IntN(4) == 0 {
		signature := image.Referrer(c.Descriptor, "application/vnd.test.signature", image.RandomBlob(uint64(p.pushed), 100))
		if err := r.Push(ctx, signature, signature.Digest.String()); err != nil {
			return err
		}
		parts = append(parts, partsOf(signature)...)
	}
	p.world.mu.Lock()
	defer p.world.mu.Unlock()
	p.world.parts[c.Digest] = parts
	for _, d := range parts {
		p.world.pushed[d] = true
	}
	return nil
}

// mount asks for a layer of another repository. A session that this begins instead
// is given up.
func (p *pusher) mount(ctx context.Context, r *remote.Repository, d digest.Digest) error {
	from := repositories[p.luck.IntN(len(repositories))]
	resp, err := r.Do(ctx, http.MethodPost, "/v2/"+r.Name+"/blobs/uploads/?mount="+d.String()+"&from="+from, nil)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func (p *pusher) content() *image.Content {
	p.pushed++
	own := image.RandomLayer(uint64(p.number)<<32|uint64(p.pushed), 2000)
	c := image.New("amd64", shared(p.luck), shared(p.luck), own)
	if p.luck.IntN(4) > 0 {
		return c
	}
	return image.Index(c, image.New("arm64", shared(p.luck), own))
}

// shared is one of the shared layers.
func shared(luck *rand.Rand) []byte {
	n := uint64(luck.IntN(sharedLayers))
	return image.RandomLayer(1<<60|n, 10_000+int(n)*10_000)
}

// partsOf are the digests of all that an image is made of.
func partsOf(c *image.Content) (all []digest.Digest) {
	for _, b := range append(append([]image.Part(nil), c.Blobs...), c.Manifests...) {
		all = append(all, b.Digest)
	}
	return all
}
