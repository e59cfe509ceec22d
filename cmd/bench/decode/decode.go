// Package decode is what `prtwatch replay` is measured against: the JSON library alone over the same
// file, on one core. It owns the fields that it decodes, which are those that a rule could want. It
// must not know what prtwatch does with them.
//
// Start at File.
package decode

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	gojson "github.com/goccy/go-json"
)

// message is an export's, with what stream/entra takes of diagnostic settings.
type message struct {
	Records []struct {
		Time       string          `json:"time"`
		Category   string          `json:"category"`
		TenantID   string          `json:"tenantId"`
		ResultType json.RawMessage `json:"resultType"`
		CallerIP   string          `json:"callerIpAddress"`
		Properties struct {
			ID            string          `json:"id"`
			Created       string          `json:"createdDateTime"`
			UPN           string          `json:"userPrincipalName"`
			UserID        string          `json:"userId"`
			AppID         string          `json:"appId"`
			AppName       string          `json:"appDisplayName"`
			IP            string          `json:"ipAddress"`
			ASN           json.RawMessage `json:"autonomousSystemNumber"`
			UserAgent     string          `json:"userAgent"`
			Device        json.RawMessage `json:"deviceDetail"`
			Location      json.RawMessage `json:"location"`
			CorrelationID string          `json:"correlationId"`
			ResourceName  string          `json:"resourceDisplayName"`
			ResourceID    string          `json:"resourceId"`
			MFADetails    json.RawMessage `json:"authenticationDetails"`
			TokenID       string          `json:"uniqueTokenIdentifier"`
			TokenType     string          `json:"incomingTokenType"`
			SessionID     string          `json:"sessionId"`
		} `json:"properties"`
	} `json:"records"`
}

// File decodes a file of messages, one a line, and returns how many records they have. Lines are no
// longer than 1 MiB.
func File(path string) (records int, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	lines := bufio.NewReaderSize(file, 1<<20)
	var m message
	for {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return records, nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return records, fmt.Errorf("reading %s: %w", path, err)
		}
		clear(m.Records[:cap(m.Records)])
		m.Records = m.Records[:0]
		if err := gojson.UnmarshalWithOption(line, &m, gojson.DecodeNoCopyString()); err != nil {
			return records, fmt.Errorf("decoding %s: %w", path, err)
		}
		records += len(m.Records)
	}
}
