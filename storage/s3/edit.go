package s3

import (
	"context"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/storage"
)

// plan returns what is to be changed in a repository that is so, and who changes it.
type plan func(*state) (changes []change, by string, err error)

// edit plans an Update.
type edit struct {
	fn func(*storage.Edit) error
}

func (u *edit) plan(s *state) ([]change, string, error) {
	e := storage.NewEdit(s.index)
	if err := u.fn(e); err != nil {
		return nil, "", err
	}
	changes := e.Changes()
	if missing := missing(s, e.Required(), changes); len(missing) > 0 {
		return nil, "", storage.MissingError(missing...)
	}
	return effects(s, changes), e.By, nil
}

// missing returns what is required and neither there nor put, each digest once.
// A manifest is a blob too.
func missing(s *state, required []digest.Digest, changes []storage.Change) (missing []digest.Digest) {
	for _, d := range required {
		puts := func(c storage.Change) bool { return c.Kind == storage.PutChange && c.Digest == d }
		if s.find(d) == nil && !slices.ContainsFunc(changes, puts) && !slices.Contains(missing, d) {
			missing = append(missing, d)
		}
	}
	return missing
}

// effects returns what the changes do to s, as a record has it; nothing if they do nothing.
func effects(s *state, changes []storage.Change) []change {
	_, events := s.index.Apply(changes)
	effect := len(events) > 0
	var all []change
	for _, c := range changes {
		switch c.Kind {
		case storage.PutChange:
			if s.find(c.Digest) == nil {
				raw := slices.Clone(c.Manifest.Raw)
				all = append(all, change{Blob: c.Digest, entry: entry{Size: int64(len(raw)), Raw: raw}})
				effect = true
			}
			all = append(all, putOf(c.Manifest))
		case storage.TagChange:
			all = append(all, change{Tag: c.Tag.String(), Digest: c.Digest})
		case storage.UntagChange:
			all = append(all, change{Untag: c.Tag.String()})
		case storage.DeleteChange:
			all = append(all, change{Delete: c.Digest})
		case storage.DropBlobChange:
			all = append(all, change{Drop: c.Digest})
			effect = effect || s.find(c.Digest) != nil
		}
	}
	if !effect {
		return nil
	}
	return all
}

// addBlob makes a blob of the repository, unless it's one already: then what came
// isn't needed.
func (r *repo) addBlob(ctx context.Context, add change, by string) (added bool, err error) {
	err = r.change(ctx, func(s *state) ([]change, string, error) {
		if added = s.find(add.Blob) == nil; added {
			return []change{add}, by, nil
		}
		return nil, "", nil
	})
	return added, err
}
