package oidc

import (
	"bytes"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"

	"github.com/caddy-oci/oci-registry/authz/authn"
)

// page is what a person sees. It has no text of a provider or of an error.
type page struct {
	Title string
	Again string // a path to try again, if that helps
	Links []link
	Out   string // where to sign out, or empty
}

type link struct{ To, Title string }

var pageHTML = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}}</title>
</head>
<body>
<main>
<h1>{{.Title}}</h1>
{{- if .Links}}
<ul>
{{- range .Links}}
<li><a href="{{.To}}">{{.Title}}</a></li>
{{- end}}
</ul>
{{- end}}
{{- if .Out}}
<form method="post" action="{{.Out}}"><button>Sign out</button></form>
{{- end}}
{{- if .Again}}
<p><a href="{{.Again}}">Sign in</a></p>
{{- end}}
</main>
</body>
</html>
`))

func (l *Login) page(w http.ResponseWriter, status int, p page) {
	var text bytes.Buffer
	if err := pageHTML.Execute(&text, p); err != nil {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	policy := "default-src 'none'; base-uri 'none'; frame-ancestors 'none'"
	if p.Out == "" {
		policy += "; form-action 'none'"
	} else { // signing out goes on to the provider, which browsers count as the form's action
		policy += "; connect-src 'self'" // for keys, from the console
	}
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(text.Bytes()) // a client that's gone doesn't care
}

// account says who has signed in.
func (l *Login) account(w http.ResponseWriter, r *http.Request) {
	who, _, err := l.Identify(r)
	switch {
	case err != nil && !errors.Is(err, authn.ErrRefused):
		l.config.Logger.ErrorContext(r.Context(), "session not known", slog.Any("error", err))
		l.page(w, http.StatusServiceUnavailable, page{Title: "It can't be found out now who you are"})
	case err != nil || who.IsAnonymous():
		l.page(w, http.StatusOK, page{Title: "You aren't signed in", Again: l.config.Prefix + "/login"})
	default:
		l.Renew(w, r)
		l.page(w, http.StatusOK, page{Title: "You are " + who.ID, Out: l.config.Prefix + "/logout"})
	}
}

// choose lets somebody choose between the providers.
func (l *Login) choose(w http.ResponseWriter, back string) {
	p := page{Title: "Sign in"}
	for _, provider := range l.providers {
		q := url.Values{"provider": {provider.Name}, "return_to": {back}}
		p.Links = append(p.Links, link{l.config.Prefix + "/login?" + q.Encode(), provider.Title})
	}
	l.page(w, http.StatusOK, p)
}
