package ociregistry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oci/oci-registry/oci"
)

// Path keeps some of a registry's repositories in a store of their own.
type Path struct {
	// Storage is where their content is kept: a module of the namespace
	// oci_registry.storage. Two paths that say the same share a store. Required.
	StorageRaw json.RawMessage `json:"storage,omitempty" caddy:"namespace=oci_registry.storage inline_key=module"`
}

// home is a place where a registry keeps content.
type home struct {
	prefixes []oci.Name // of the repositories that are there; none: all that are nowhere else
	module   string     // the storage module's name
	backend  Backend
	raw      json.RawMessage // the module's configuration
}

// identity tells apart the places where content can be.
func (h home) identity() string { return h.module + " " + h.backend.Identity() }

// path is what the home is called in errors: empty, or like ", path team".
func (h home) path() string {
	if len(h.prefixes) == 0 {
		return ""
	}
	return ", path " + h.prefixes[0].String()
}

// place is what the admin API says of the home of the repositories under path.
func (h home) place(path string) place {
	return place{Path: path, Module: h.module, Identity: h.backend.Identity()}
}

// places are the homes of the registry's paths, sorted by path.
func (r *Registry) places() []place {
	var all []place
	for _, h := range r.homes {
		for _, prefix := range h.prefixes {
			all = append(all, h.place(prefix.String()))
		}
	}
	slices.SortFunc(all, func(a, b place) int { return strings.Compare(a.Path, b.Path) })
	return all
}

// loadHomes finds out where the content is: first of all that's under no path,
// then by path.
func (r *Registry) loadHomes(ctx caddy.Context) error {
	if r.StorageRaw == nil {
		r.StorageRaw = json.RawMessage(`{"module":"filesystem"}`)
	}
	rest, err := r.loadHome(ctx, r, r.StorageRaw)
	if err != nil {
		return err
	}
	r.homes = []home{rest}
	for _, prefix := range slices.Sorted(maps.Keys(r.Paths)) {
		if err := r.addPath(ctx, prefix); err != nil {
			return fmt.Errorf("path %q: %w", prefix, err)
		}
	}
	return nil
}

// loadHome loads the module in the field StorageRaw of from.
func (r *Registry) loadHome(ctx caddy.Context, from any, raw json.RawMessage) (home, error) {
	mod, err := ctx.LoadModule(from, "StorageRaw")
	if err != nil {
		return home{}, fmt.Errorf("storage: %w", err)
	}
	backend, ok := mod.(Backend)
	if !ok {
		return home{}, fmt.Errorf("storage: module %T is no Backend", mod)
	}
	if to, ok := mod.(readOnlyBackend); ok && r.ReadOnly {
		to.onlyRead()
	}
	return home{module: backend.CaddyModule().ID.Name(), backend: backend, raw: raw}, nil
}

func (r *Registry) addPath(ctx caddy.Context, prefix string) error {
	name, err := parsePath(prefix)
	if err != nil {
		return err
	}
	p := r.Paths[prefix]
	if p == nil || p.StorageRaw == nil {
		return errors.New("where is it? Write 'root PATH' or 'storage MODULE { … }' in its block")
	}
	added, err := r.loadHome(ctx, p, p.StorageRaw)
	if err != nil {
		return err
	}
	added.prefixes = []oci.Name{name}
	for i, other := range r.homes {
		switch inner, outer, nested := nested(added, other); {
		case nested:
			return fmt.Errorf("one store would lie inside another, which would serve and change it: give each a folder beside the other's (%s, %s)",
				inner.backend.Identity(), outer.backend.Identity())
		case added.identity() != other.identity():
		case i == 0:
			return fmt.Errorf("its content would be where all other content is, in %s: leave the path out, or give it a place of its own", other.identity())
		case !bytes.Equal(added.raw, other.raw):
			return fmt.Errorf("it shares %s with path %s, and says something else about it: write the same in both blocks", other.identity(), other.prefixes[0])
		default:
			r.homes[i].prefixes = append(other.prefixes, name)
			return nil
		}
	}
	r.homes = append(r.homes, added)
	return nil
}

// parsePath parses the prefix of a path.
func parsePath(prefix string) (oci.Name, error) {
	name, err := oci.ParseName(prefix)
	if err != nil {
		return name, errors.New("want what names of repositories begin with, in whole components and without slashes around it, like team or team/apps")
	}
	return name, nil
}

func checkPath(prefix string) error {
	if _, err := parsePath(prefix); err != nil {
		return fmt.Errorf("path %q: %w", prefix, err)
	}
	return nil
}

// conflict says what two registries can't share.
func conflict(old, added *Registry) error {
	for _, a := range old.homes {
		for _, b := range added.homes {
			if inner, outer, ok := nested(a, b); ok {
				in, out := old, added
				if inner.backend == b.backend {
					in, out = added, old
				}
				return fmt.Errorf("the content of registry %s%s would lie inside that of registry %s%s, which would serve and change it: give each a folder beside the other's (%s, %s)",
					in.name, inner.path(), out.name, outer.path(), inner.backend.Identity(), outer.backend.Identity())
			}
			if a.identity() == b.identity() {
				return fmt.Errorf("registries %s%s and %s%s both keep their content in %s: give each its own, or declare one in the app (global option 'oci_registry { registry NAME { … } }') and use it by name in every site ('oci_registry NAME')",
					old.name, a.path(), added.name, b.path(), b.identity())
			}
		}
	}
	return nil
}

// nested finds out whether one of two places is a folder below the other.
func nested(a, b home) (inner, outer home, ok bool) {
	if a.module != "filesystem" || b.module != "filesystem" {
		return home{}, home{}, false
	}
	below := func(in, out home) bool {
		rel, err := filepath.Rel(out.backend.Identity(), in.backend.Identity())
		return err == nil && rel != "." && filepath.IsLocal(rel)
	}
	switch {
	case below(a, b):
		return a, b, true
	case below(b, a):
		return b, a, true
	}
	return home{}, home{}, false
}
