package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// tokenWithin is how long a token may take to come.
const tokenWithin = 20 * time.Second

// A token source returns a token that is good for a new connection; it keeps one until shortly
// before that ends.
type tokenSource func(context.Context) (string, error)

// tokens returns where the tokens of OAUTHBEARER come from, for these brokers.
func (s SASL) tokens(brokers []string) (tokenSource, error) {
	if s.Azure {
		return s.azureTokens(brokers)
	}
	if _, problem := s.endpoint(); problem != nil {
		return nil, problem
	}
	return s.endpointTokens(), nil
}

// bearer is the mechanism that logs in with them.
func (next tokenSource) bearer(ctx context.Context) (oauth.Auth, error) {
	ctx, cancel := context.WithTimeout(ctx, tokenWithin)
	defer cancel()
	token, err := next(ctx)
	return oauth.Auth{Token: token}, err
}

// azureTokens takes tokens of Entra ID from the first of what azidentity's default chain finds:
// the environment, a workload identity (Kubernetes), a managed identity, a developer's tools. It
// asks for nothing yet.
func (s SASL) azureTokens(brokers []string) (tokenSource, error) {
	chain, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		return nil, &Problem{"sasl.azure", "true", "no identity was found: " + inOneLine(err)}
	}
	ask := policy.TokenRequestOptions{Scopes: []string{s.azureScope(brokers)}}
	return func(ctx context.Context) (string, error) {
		token, err := chain.GetToken(ctx, ask)
		if err != nil {
			return "", &Problem{"sasl.azure", "true", "Entra ID gave no token for " + ask.Scopes[0] + ": " + inOneLine(err)}
		}
		return token.Token, nil
	}, nil
}

// azureScope is what a token has to be for: the namespace, by its host (Microsoft's
// azure-event-hubs-kafka-overview.md), where nothing else is configured.
func (s SASL) azureScope(brokers []string) string {
	if s.Scope != "" {
		return s.Scope
	}
	for _, broker := range brokers {
		if host, _, err := net.SplitHostPort(broker); err == nil {
			return "https://" + host + "/.default"
		}
	}
	return ""
}

// endpointTokens takes tokens from an OAuth 2.0 token endpoint by client credentials (RFC 6749,
// 4.4). The secret's file is read for each, and that of the endpoint's authorities.
func (s SASL) endpointTokens() tokenSource {
	return reused(func(ctx context.Context) (*oauth2.Token, error) {
		secret, problem := s.password()
		if problem != nil {
			return nil, problem
		}
		client, problem := s.endpoint()
		if problem != nil {
			return nil, problem
		}
		defer client.CloseIdleConnections()
		config := clientcredentials.Config{ClientID: s.User, ClientSecret: string(secret), TokenURL: s.TokenURL, Scopes: strings.Fields(s.Scope)}
		token, err := config.Token(context.WithValue(ctx, oauth2.HTTPClient, client))
		if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); unknown {
			return nil, s.untrusted()
		}
		if err != nil {
			return nil, &Problem{"sasl.token_url", s.TokenURL, "it gave no token to " + s.User + ": " + secret.without(refusal(err))}
		}
		return token, nil
	})
}

// endpoint is how the token endpoint is spoken to. A redirect is not followed: 307 and 308 would have the secret sent
// on, to any host.
func (s SASL) endpoint() (*http.Client, *Problem) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if s.TokenCAFile != "" {
		pool, problem := readAuthorities("sasl.token_ca_file", s.TokenCAFile)
		if problem != nil {
			return nil, problem
		}
		transport.TLSClientConfig.RootCAs = pool
	}
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &http.Client{Transport: transport, CheckRedirect: stay, Timeout: tokenWithin}, nil
}

// untrusted is the problem of an endpoint whose certificate is signed by somebody else.
func (s SASL) untrusted() *Problem {
	if s.TokenCAFile == "" {
		return &Problem{"sasl.token_ca_file", `""`, "the certificate of " + s.TokenURL + " is signed by nobody whom the system trusts; name a file of who signs it"}
	}
	return &Problem{"sasl.token_ca_file", s.TokenCAFile, "the certificate of " + s.TokenURL + " is signed by none that it holds"}
}

// reused keeps a token until it is about to end. Connections ask one at a time.
func reused(fetch func(context.Context) (*oauth2.Token, error)) tokenSource {
	turn := make(chan *oauth2.Token, 1)
	turn <- nil
	return func(ctx context.Context) (string, error) {
		select {
		case token := <-turn:
			if !token.Valid() {
				fresh, err := fetch(ctx)
				if err != nil {
					turn <- nil
					return "", err
				}
				token = fresh
			}
			turn <- token
			return token.AccessToken, nil
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// refusal is what a token endpoint said, without the rest of its answer.
func refusal(err error) string {
	said, ok := errors.AsType[*oauth2.RetrieveError](err)
	switch {
	case !ok:
		return inOneLine(err)
	case said.ErrorDescription != "":
		return said.ErrorCode + ": " + inOneLine(errors.New(said.ErrorDescription))
	case said.ErrorCode != "":
		return said.ErrorCode
	case said.Response.StatusCode/100 == 3:
		return "it answered " + said.Response.Status + elsewhere(said.Response) + ", which is not followed; name the endpoint itself"
	}
	return "it answered " + said.Response.Status
}

// elsewhere is where an answer points to, without what may be secret in it.
func elsewhere(answer *http.Response) string {
	to, err := answer.Location()
	if err != nil {
		return ""
	}
	return " to " + (&url.URL{Scheme: to.Scheme, Host: to.Host, Path: to.Path}).String()
}

// inOneLine is the text of an error that explains itself at length.
func inOneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// validateOAuth reports what is wrong with the keys of OAUTHBEARER.
func (s SASL) validateOAuth(report func(key, value, remedy string)) {
	if s.Azure {
		for _, unused := range []struct{ key, value string }{
			{"user", s.User}, {"password", string(s.Password)}, {"password_file", s.PasswordFile}, {"token_url", s.TokenURL}, {"token_ca_file", s.TokenCAFile},
		} {
			if unused.value != "" { // which may be a secret, or hold one
				report("sasl."+unused.key, "set", "sasl.azure finds its identity by itself (AZURE_CLIENT_ID names one of several); leave this away")
			}
		}
		return
	}
	at, err := url.Parse(s.TokenURL)
	switch {
	case s.TokenURL == "":
		report("sasl.token_url", `""`, "name the token endpoint, or set sasl.azure to true for Event Hubs")
	case err != nil: // nor can what is secret in it be told apart
		report("sasl.token_url", "not shown", "it is no URL; write it like https://login.example.com/oauth2/token")
	case at.User != nil:
		report("sasl.token_url", at.Redacted(), "give the client's id as sasl.user and its secret as sasl.password")
	case at.Host == "":
		report("sasl.token_url", s.TokenURL, "write it like https://login.example.com/oauth2/token")
	case at.Scheme != "https" && !loopback(at.Hostname()):
		report("sasl.token_url", s.TokenURL, "the secret would go over the network in the clear; use https")
	}
	if s.TokenCAFile != "" && at != nil && at.Scheme == "http" {
		report("sasl.token_ca_file", s.TokenCAFile, "sasl.token_url is http; write it with https, or leave this away")
	} else if _, problem := s.endpoint(); problem != nil {
		report(problem.Key, problem.Value, problem.Remedy)
	}
	s.validateLogin("the client's id", report)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
