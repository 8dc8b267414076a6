package option

import (
	"encoding/json"
	"log/slog"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// Module parses the configuration of one of the modules of a namespace.
func Module(to *json.RawMessage, namespace, inlineKey string) Parser {
	return func(d *caddyfile.Dispenser) error {
		name, err := Argument(d, strings.Join(ModuleNames(namespace), "|")+" { … }")
		if err != nil {
			return err
		}
		if names := ModuleNames(namespace); !slices.Contains(names, name) {
			return d.Errf("no module %s.%s is in this build of Caddy: want one of %s, or add the plugin that has it", namespace, name, strings.Join(names, ", "))
		}
		m, err := caddyfile.UnmarshalModule(d, namespace+"."+name)
		if err != nil {
			return err
		}
		*to = caddyconfig.JSONModuleObject(m, inlineKey, name, nil)
		return nil
	}
}

// ModuleNames lists the modules of a namespace that this program has.
func ModuleNames(namespace string) []string {
	modules := caddy.GetModules(namespace)
	names := make([]string, len(modules))
	for i, m := range modules {
		names[i] = m.ID.Name()
	}
	return names
}

// WarnOfSecret tells the operator of a secret that stands in the configuration itself, where
// /config/ of the admin endpoint shows it. now is what it stands for.
func WarnOfSecret(log *slog.Logger, option, value, now string) {
	if value != "" && value == now {
		log.Warn(option+" is written into the configuration, which the admin endpoint shows at /config/ and Caddy saves",
			slog.String("fix", "put it into a file or the environment, and write {file./path} or {env.NAME}; a Caddyfile's {$NAME} is replaced too early"))
	}
}
