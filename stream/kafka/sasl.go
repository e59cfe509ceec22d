package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// SASL is the section `sasl` of a cluster.
type SASL struct {
	Mechanism    string `koanf:"mechanism"`     // one of the Mechanism constants; empty: none
	User         string `koanf:"user"`          // with OAUTHBEARER the client's id
	Password     Secret `koanf:"password"`      // with OAUTHBEARER the client's secret
	PasswordFile string `koanf:"password_file"` // read for every connection, so that it may be renewed
	Azure        bool   `koanf:"azure"`         // OAUTHBEARER with a token of Entra ID, by azidentity's default chain
	TokenURL     string `koanf:"token_url"`     // OAUTHBEARER with a token of this endpoint, by client credentials
	TokenCAFile  string `koanf:"token_ca_file"` // who may sign that endpoint's certificate, PEM; empty: whom the system trusts
	Scope        string `koanf:"scope"`         // what a token is asked for; with azure: default https://NAMESPACE/.default
}

// The mechanisms.
const (
	MechanismPlain       = "PLAIN"
	MechanismScram256    = "SCRAM-SHA-256"
	MechanismScram512    = "SCRAM-SHA-512"
	MechanismOAuthBearer = "OAUTHBEARER"
)

func (s SASL) validate(report func(key, value, remedy string)) {
	switch s.Mechanism {
	case MechanismPlain, MechanismScram256, MechanismScram512:
	case "":
		if s != (SASL{}) {
			report("sasl.mechanism", `""`, "SASL is off although other keys of it are set; name a mechanism, such as PLAIN")
		}
		return
	case MechanismOAuthBearer:
		s.validateOAuth(report)
		return
	default:
		report("sasl.mechanism", fmt.Sprintf("%q", s.Mechanism), "use PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER")
		return
	}
	for _, foreign := range []struct {
		key, value string
		set        bool
	}{{"azure", "true", s.Azure}, {"token_url", s.TokenURL, s.TokenURL != ""}, {"token_ca_file", s.TokenCAFile, s.TokenCAFile != ""}, {"scope", s.Scope, s.Scope != ""}} {
		if foreign.set {
			report("sasl."+foreign.key, foreign.value, "it belongs to OAUTHBEARER; set sasl.mechanism to that, or leave this away")
		}
	}
	s.validateLogin("the user", report)
}

// validateLogin reports what is wrong with user and password.
func (s SASL) validateLogin(who string, report func(key, value, remedy string)) {
	if s.User == "" {
		report("sasl.user", `""`, "name "+who)
	}
	switch {
	case s.Password != "" && s.PasswordFile != "":
		report("sasl.password_file", s.PasswordFile, "there is a password too; keep one of them")
	case s.Password == "" && s.PasswordFile == "":
		report("sasl.password", `""`, "give the password, or a file of it as password_file")
	case s.PasswordFile != "":
		if _, problem := s.password(); problem != nil {
			report(problem.Key, problem.Value, problem.Remedy)
		}
	}
}

// mechanism returns how to log in to the brokers, nil where there is no SASL.
func (s SASL) mechanism(brokers []string) (sasl.Mechanism, error) {
	if s.Mechanism == "" {
		return nil, nil
	}
	if s.Mechanism == MechanismOAuthBearer {
		tokens, err := s.tokens(brokers)
		if err != nil {
			return nil, err
		}
		return oauth.Oauth(tokens.bearer), nil
	}
	if _, problem := s.password(); problem != nil {
		return nil, problem
	}
	login := func(context.Context) (scram.Auth, error) {
		password, problem := s.password()
		if problem != nil {
			return scram.Auth{}, problem
		}
		return scram.Auth{User: s.User, Pass: string(password)}, nil
	}
	switch s.Mechanism {
	case MechanismPlain:
		return plain.Plain(func(ctx context.Context) (plain.Auth, error) {
			auth, err := login(ctx)
			return plain.Auth{User: auth.User, Pass: auth.Pass}, err
		}), nil
	case MechanismScram256:
		return scram.Sha256(login), nil
	case MechanismScram512:
		return scram.Sha512(login), nil
	}
	return nil, fmt.Errorf("sasl.mechanism %q: it is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 and OAUTHBEARER", s.Mechanism)
}

// password returns the password, which is in a file or not. The problem's key lacks the section.
func (s SASL) password() (Secret, *Problem) {
	if s.PasswordFile == "" {
		return s.Password, nil
	}
	return readSecret("sasl.password_file", s.PasswordFile)
}
