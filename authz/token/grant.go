package token

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/oci"
)

// grants are what of the scopes that were asked for who may have.
type grants struct {
	limit []authz.Scope // for the token
	words []string      // for the client
}

// asker asks an Authorizer for one caller.
type asker struct {
	authorizer authz.Authorizer
	who        authz.Identity
	client     netip.Addr
}

// may reports whether the caller may do it, or may if conditions are met then: they are
// about the request that the token is for. An error means that nobody knows.
func (a asker) may(ctx context.Context, action authz.Action, name oci.Name) (bool, error) {
	want := []authz.Access{{Action: action, Repository: name}}
	_, err := a.authorizer.Authorize(ctx, authz.Question{Who: a.who, Client: a.client, Want: want})
	if refusal, ok := errors.AsType[*authz.Refusal](err); ok && refusal.Conditional {
		return true, nil
	}
	if errors.Is(err, oci.Denied) || errors.Is(err, oci.Unauthorized) {
		return false, nil
	}
	return err == nil, err
}

// grant asks for each action of each scope. What isn't granted is left out, which is no
// error: the registry says so when the token is used.
func (a asker) grant(ctx context.Context, scopes []Scope) (grants, error) {
	var g grants
	for _, s := range scopes {
		limit, words, err := a.grantOne(ctx, s)
		if err != nil {
			return grants{}, err
		}
		if len(words) > 0 {
			g.limit = append(g.limit, limit...)
			g.words = append(g.words, Scope{s.Type, s.Class, s.Name, words}.String())
		}
	}
	return g, nil
}

func (a asker) grantOne(ctx context.Context, s Scope) (limit []authz.Scope, words []string, err error) {
	if s.isCatalog() {
		return a.grantCatalog(ctx, s)
	}
	name, ok := s.repository()
	if !ok {
		return nil, nil, nil
	}
	scope := authz.Scope{Repositories: name.String()}
	for _, word := range s.Actions {
		actions, err := a.actions(ctx, word, name)
		if err != nil {
			return nil, nil, err
		}
		if len(actions) > 0 {
			words = append(words, word)
			scope.Actions = union(scope.Actions, actions)
		}
	}
	return []authz.Scope{scope}, words, nil
}

// actions are those that a client's word stands for, as far as they are granted. What a
// push may overwrite depends on the tag, which is asked about then.
func (a asker) actions(ctx context.Context, word string, name oci.Name) ([]authz.Action, error) {
	switch word {
	case "pull":
		return a.those(ctx, name, authz.Pull, authz.List)
	case "push":
		granted, err := a.those(ctx, name, authz.Push)
		if err != nil || len(granted) == 0 {
			return nil, err
		}
		if a.who.Limit == nil {
			return append(granted, authz.Overwrite), nil
		}
		return a.those(ctx, name, authz.Push, authz.Overwrite)
	case "delete":
		return a.those(ctx, name, authz.Delete)
	case "*":
		return a.those(ctx, name, authz.Pull, authz.List, authz.Push, authz.Overwrite, authz.Delete)
	}
	return nil, nil
}

// those returns the actions that are granted.
func (a asker) those(ctx context.Context, name oci.Name, actions ...authz.Action) ([]authz.Action, error) {
	var granted []authz.Action
	for _, action := range actions {
		ok, err := a.may(ctx, action, name)
		if err != nil {
			return nil, err
		}
		if ok {
			granted = append(granted, action)
		}
	}
	return granted, nil
}

// grantCatalog lets the caller see the list of repositories, of which it shows what the
// caller may see: all, or those that the credential is for.
func (a asker) grantCatalog(ctx context.Context, s Scope) (limit []authz.Scope, words []string, err error) {
	if len(s.Actions) == 0 {
		return nil, nil, nil
	}
	if ok, err := a.may(ctx, authz.List, oci.Name{}); err != nil || !ok {
		return nil, nil, err
	}
	list := []authz.Action{authz.List}
	if a.who.Limit == nil {
		return []authz.Scope{{Repositories: "**", Actions: list}}, s.Actions, nil
	}
	for _, own := range a.who.Limit {
		if slices.Contains(own.Actions, authz.List) || slices.Contains(own.Actions, authz.Pull) {
			limit = append(limit, authz.Scope{Repositories: own.Repositories, Actions: list})
		}
	}
	return limit, s.Actions, nil
}

func union(all, more []authz.Action) []authz.Action {
	for _, a := range more {
		if !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return all
}

// text is the scope as a client is told of it.
func (g grants) text() string { return strings.Join(g.words, " ") }
