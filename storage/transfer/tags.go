package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// named is a tag and what it's to name.
type named struct {
	tag    oci.Tag
	digest digest.Digest
}

// copyTags sets the tags that aren't as they should be.
func (r *repository) copyTags(ctx context.Context) error {
	var wanted []named
	for t, desc := range r.index.Tags(oci.Tag{}) {
		if r.known != nil {
			if was, err := r.known.Resolve(oci.TagRef(t)); err == nil && was.Digest == desc.Digest {
				continue
			}
		}
		wanted = append(wanted, named{t.Clone(), desc.Digest})
	}
	for some := range slices.Chunk(wanted, perUpdate) {
		if err := r.setTags(ctx, some); err != nil {
			return err
		}
	}
	return nil
}

// errNotCopied is why a tag isn't set whose manifest is a problem by itself.
var errNotCopied = errors.New("what it names wasn't copied")

func (r *repository) setTags(ctx context.Context, wanted []named) error {
	var refused map[oci.Tag]error
	err := r.update(ctx, func(e *storage.Edit) {
		refused = make(map[oci.Tag]error)
		for _, w := range wanted {
			was, err := e.Resolve(oci.TagRef(w.tag))
			switch _, missing := e.Resolve(oci.DigestRef(w.digest)); {
			case missing != nil:
				refused[w.tag] = errNotCopied
			case err == nil && was.Digest != w.digest && !r.opts.Overwrite:
				refused[w.tag] = fmt.Errorf("the target has it for %s, and here it is %s", was.Digest, w.digest)
			default:
				e.Tag(w.tag, w.digest)
			}
		}
	})
	if err != nil {
		return err
	}
	for _, w := range wanted {
		if why := refused[w.tag]; why != nil {
			if err := r.problem(ctx, w.tag.String(), why); err != nil {
				return err
			}
		}
	}
	return nil
}
