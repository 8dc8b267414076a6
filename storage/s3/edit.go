package s3

import (
	"context"
	"errors"
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
	return effects(s, changes, e.Required()), e.By, nil
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

// effects returns what the changes do to s, as a record has it; nothing if they do
// nothing. Marks go from what is put, tagged or required.
func effects(s *state, changes []storage.Change, required []digest.Digest) []change {
	p := &planner{state: s}
	for _, d := range required {
		p.unmark(d)
	}
	for _, c := range changes {
		p.add(c)
	}
	if _, events := s.index.Apply(p.names); len(events) == 0 && !p.effect {
		return nil
	}
	return p.all
}

// planner turns changes into those of a record.
type planner struct {
	state  *state
	all    []change
	names  []storage.Change       // those that an index knows
	effect bool                   // something is changed that no index knows
	marked map[digest.Digest]bool // whether it's marked after what came before; else the state says
}

func (p *planner) add(c storage.Change) {
	switch c.Kind {
	case storage.PutChange:
		p.put(c)
	case storage.TagChange:
		p.unmark(c.Digest)
		p.name(c, change{Tag: c.Tag.String(), Digest: c.Digest})
	case storage.UntagChange:
		p.name(c, change{Untag: c.Tag.String()})
	case storage.DeleteChange:
		if p.due(c) {
			p.name(c, change{Delete: c.Digest})
		}
	case storage.DropBlobChange:
		if p.state.find(c.Digest) != nil && p.due(c) {
			p.blob(change{Drop: c.Digest})
		}
	case storage.MarkChange:
		if p.state.find(c.Digest) != nil && !p.isMarked(c.Digest) {
			p.setMarked(c.Digest, true)
			p.blob(change{Mark: c.Digest, Since: c.At})
		}
	case storage.UnmarkChange:
		p.unmark(c.Digest)
	}
}

func (p *planner) put(c storage.Change) {
	p.unmark(c.Digest)
	if p.state.find(c.Digest) == nil {
		raw := slices.Clone(c.Manifest.Raw)
		p.blob(change{Blob: c.Digest, entry: entry{Size: int64(len(raw)), Raw: raw}})
	}
	p.name(c, putOf(c.Manifest))
}

func (p *planner) name(c storage.Change, ch change) {
	p.names = append(p.names, c)
	p.all = append(p.all, ch)
}

func (p *planner) blob(ch change) {
	p.all = append(p.all, ch)
	p.effect = true
}

func (p *planner) unmark(d digest.Digest) {
	if p.isMarked(d) {
		p.setMarked(d, false)
		p.blob(change{Unmark: d})
	}
}

func (p *planner) isMarked(d digest.Digest) bool {
	if marked, ok := p.marked[d]; ok {
		return marked
	}
	return p.state.marked(d)
}

func (p *planner) setMarked(d digest.Digest, marked bool) {
	if p.marked == nil {
		p.marked = make(map[digest.Digest]bool)
	}
	p.marked[d] = marked
}

// due reports whether what goes only if it was marked early enough was.
func (p *planner) due(c storage.Change) bool {
	if c.At.IsZero() {
		return true
	}
	b := p.state.find(c.Digest)
	return b != nil && p.isMarked(c.Digest) && !b.marked.IsZero() && !b.marked.After(c.At)
}

// rely finds a blob on which somebody is going to rely, and takes the mark off it.
func (r *repo) rely(ctx context.Context, s *state, d digest.Digest) (*blob, error) {
	b := s.find(d)
	if b != nil && !b.marked.IsZero() {
		err := r.change(ctx, func(s *state) ([]change, string, error) {
			b = s.find(d)
			return effects(s, nil, []digest.Digest{d}), "", nil
		})
		if errors.Is(err, storage.ErrStandby) { // who can't write leaves marks
			err = nil
		}
		if err != nil {
			return nil, err
		}
	}
	if b == nil {
		return nil, unknownBlob(d)
	}
	return b, nil
}
