{{/* Labels of everything that belongs to the router. */}}
{{- define "bbr.labels" -}}
app: {{ .Values.bbr.name }}
app.kubernetes.io/name: bbr
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* Labels by which the router's pods are found; the Go routers' chart has the first alone. */}}
{{- define "bbr.selector" -}}
app: {{ .Values.bbr.name }}
{{- end }}

{{/* registry/repository:tag, or the older hub/name:tag. */}}
{{- define "bbr.image" -}}
{{- $image := .Values.bbr.image -}}
{{- $where := $image.hub | default $image.registry -}}
{{- $what := $image.name | default $image.repository -}}
{{- if $where }}{{ $where }}/{{ end }}{{ $what }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* "true" if the ext_proc port serves TLS; the Go routers' chart has it among the flags. */}}
{{- define "bbr.secure" -}}
{{- $flags := .Values.bbr.flags -}}
{{- $secure := toString (ternary (index $flags "secure-serving") .Values.bbr.secureServing (hasKey $flags "secure-serving")) -}}
{{- if eq $secure "auto" -}}
{{- not (has .Values.provider.name (list "envoy-gateway" "kgateway" "agentgateway")) -}}
{{- else -}}
{{- $secure -}}
{{- end -}}
{{- end }}

{{/* "true" if the router compares its table with HTTPRoutes; it knows them by the usual headers only. */}}
{{- define "bbr.discovers" -}}
{{- $flags := .Values.bbr.flags -}}
{{- and .Values.bbr.discoverRoutes (not .Values.bbr.plugins) (not .Values.bbr.customConfig) (not (hasKey $flags "model-header")) (not (hasKey $flags "base-model-header")) -}}
{{- end }}

{{/* "true" if the router asks the model servers for their adapters; it knows pools by the usual headers only. */}}
{{- define "bbr.asksServers" -}}
{{- $flags := .Values.bbr.flags -}}
{{- if .Values.bbr.discoverAdapters.enabled -}}
{{- if or .Values.bbr.plugins .Values.bbr.customConfig (hasKey $flags "model-header") (hasKey $flags "base-model-header") -}}
{{- fail "bbr.discoverAdapters: it works only with the usual routing headers, so without bbr.plugins, bbr.customConfig, bbr.flags.model-header and bbr.flags.base-model-header" -}}
{{- end -}}
true
{{- end -}}
{{- end }}

{{/* "true" if the cluster has Envoy AI Gateway's kinds and InferencePool: then Envoy Gateway takes a pool in a route. */}}
{{- define "bbr.aiGateway" -}}
{{- $has := .Capabilities.APIVersions -}}
{{- if and ($has.Has "inference.networking.k8s.io/v1") (or ($has.Has "aigateway.envoyproxy.io/v1alpha1") ($has.Has "aigateway.envoyproxy.io/v1beta1")) -}}
true
{{- end -}}
{{- end }}

{{/* What models' routes point at: pools or services. Which gateway knows InferencePools, if values don't say. */}}
{{- define "bbr.backends" -}}
{{- $auto := "pools" -}}
{{- if eq .Values.provider.name "kgateway" -}}
{{- $auto = "services" -}}
{{- else if and (eq .Values.provider.name "envoy-gateway") (ne (include "bbr.aiGateway" .) "true") -}}
{{- $auto = "services" -}}
{{- end -}}
{{- $backends := ternary $auto .Values.backends (eq .Values.backends "auto") -}}
{{- if and (eq $backends "services") (eq .Values.provider.name "gke") -}}
{{- fail "backends: services is not for gke, whose health checks and timeouts are the InferencePools'" -}}
{{- end -}}
{{- $backends -}}
{{- end }}

{{- define "bbr.serviceAccount" -}}
{{ printf "%s-%s" .Values.bbr.name .Release.Name | trunc 56 | trimSuffix "-" }}
{{- end }}

{{/* The name that a gateway's cluster of Service .name has in Istio, and its certificate. */}}
{{- define "bbr.host" -}}
{{ .name }}.{{ .root.Release.Namespace }}.svc.{{ .root.Values.clusterDomain }}
{{- end }}

{{/* All entries of models, whole, as a YAML list under the key models; they must not share a name. */}}
{{- define "bbr.models" -}}
{{- $models := list -}}
{{- $seen := dict -}}
{{- range .Values.models -}}
{{- $model := include "bbr.model" (dict "model" .) | fromYaml -}}
{{- range $what := list (printf "name %s" $model.name) (printf "pool %s" $model.pool.name) (printf "endpoint picker %s" $model.epp.name) (printf "route %s" $model.route.name) (printf "baseModel %s" $model.baseModel) -}}
{{- if hasKey $seen $what -}}
{{- fail (printf "models: two entries have the %s; give one of them another, since each model needs its own" $what) -}}
{{- end -}}
{{- $_ := set $seen $what true -}}
{{- end -}}
{{- $models = append $models $model -}}
{{- end -}}
{{- toYaml (dict "models" $models) -}}
{{- end }}

{{/* Lists of who may use what: of the names .own, as YAML for data.allow; "" if none of them has one. */}}
{{- define "bbr.allow" -}}
{{- $lists := dict -}}
{{- range .own -}}
{{- if hasKey $.lists . -}}
{{- $_ := set $lists . (get $.lists .) -}}
{{- end -}}
{{- end -}}
{{- with $lists }}{{ toYaml . }}{{ end -}}
{{- end }}

{{/* The lists of a scope, by name, under the key lists: .scope, .held, .root. Each must be about something in it. */}}
{{- define "bbr.scopeLists" -}}
{{- $lists := .held.allow | default dict -}}
{{- $known := keys (.held.aliases | default dict) -}}
{{- $byName := list -}}
{{- range (include "bbr.models" .root | fromYaml).models -}}
{{- if eq .route.header "model" -}}{{- $byName = append $byName .baseModel -}}{{- end -}}
{{- end -}}
{{- range .held.models -}}
{{- if has .baseModel $byName -}}
{{- fail (printf "scopes: %s has %s, whose route matches each name by itself; give that entry of models route.header: base" $.scope .baseModel) -}}
{{- end -}}
{{- $known = concat $known (list .baseModel) (.adapters | default list) -}}
{{- end -}}
{{- range $name, $_ := $lists -}}
{{- if not (has $name $known) -}}
{{- fail (printf "scopes: %s is no model, adapter or alias of the scope %s; its list would do nothing" $name $.scope) -}}
{{- end -}}
{{- end -}}
{{- toYaml (dict "lists" $lists) -}}
{{- end }}

{{/* All lists, by name, under the key lists: those of models' entries and those of allow. Each must be about something. */}}
{{- define "bbr.lists" -}}
{{- $lists := deepCopy (.Values.allow | default dict) -}}
{{- $known := keys (.Values.aliases | default dict) -}}
{{- range (include "bbr.models" . | fromYaml).models -}}
{{- $known = concat $known (list .baseModel) (.adapters | default list) -}}
{{- if hasKey . "allow" -}}
{{- if hasKey $lists .baseModel -}}
{{- fail (printf "allow: %s has a list in its entry of models too: leave one out" .baseModel) -}}
{{- end -}}
{{- $_ := set $lists .baseModel .allow -}}
{{- end -}}
{{- end -}}
{{- range $name, $_ := $lists -}}
{{- if not (has $name $known) -}}
{{- fail (printf "allow: %s is no model, adapter or alias of these values; its list would do nothing" $name) -}}
{{- end -}}
{{- end -}}
{{- toYaml (dict "lists" $lists) -}}
{{- end }}

{{/* Labels of what belongs to one model: .model, .root. */}}
{{- define "bbr.modelLabels" -}}
app.kubernetes.io/name: {{ .model.name }}
app.kubernetes.io/part-of: {{ .root.Values.bbr.name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{/* The Gateway, as policies name it. */}}
{{- define "bbr.gateway" -}}
group: gateway.networking.k8s.io
kind: Gateway
name: {{ .Values.inferenceGateway.name }}
{{- end }}

{{/* A quantity of Kubernetes (a number, or a text such as 1Gi, .5, 1E, 1e9) as a number. */}}
{{- define "bbr.number" -}}
{{- if kindIs "string" . -}}
{{- $units := dict "" 1.0 "n" 1e-9 "u" 1e-6 "m" 1e-3 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 "Ei" 1152921504606846976.0 -}}
{{- /* An exponent has digits behind its letter; an E at the end is 10 to the 18th. */ -}}
{{- $unit := regexFind "[A-Za-z]*$" . -}}
{{- mulf (float64 (trimSuffix $unit .)) (get $units $unit) -}}
{{- else -}}
{{- float64 . -}}
{{- end -}}
{{- end }}

{{/* --max-buffered-bytes: half of the memory limit, and what the flag takes at most (2 GiB); "" without a limit. */}}
{{- define "bbr.bufferBytes" -}}
{{- $limit := (.Values.bbr.resources.limits).memory -}}
{{- if not (kindIs "invalid" $limit) -}}
{{- $bytes := float64 (include "bbr.number" $limit) -}}
{{- if and (gt $bytes 0.0) (lt $bytes 1048576.0) -}}
{{- fail (printf "bbr.resources.limits.memory: %v is less than 1Mi, in which nothing runs (m is a thousandth, Mi are 1,048,576 bytes)" $limit) -}}
{{- end -}}
{{- if gt $bytes 0.0 -}}
{{- ternary "2147483648" (div (int64 (minf $bytes 4294967296.0)) 2) (ge $bytes 4294967296.0) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* "true" if pods name the users that they run as; OpenShift gives each namespace its own, and refuses others. */}}
{{- define "bbr.fixedUserIds" -}}
{{- if eq (toString .Values.fixedUserIds) "auto" -}}
{{- not (.Capabilities.APIVersions.Has "security.openshift.io/v1") -}}
{{- else -}}
{{- .Values.fixedUserIds -}}
{{- end -}}
{{- end }}

{{/* What the router's pods run as. */}}
{{- define "bbr.podSecurityContext" -}}
runAsNonRoot: true
{{- if eq (include "bbr.fixedUserIds" .) "true" }}
runAsUser: 65532
runAsGroup: 65532
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Fails if the texts of a ConfigMap, .texts, are more than one may hold; .what names the values, .instead what to do. */}}
{{- define "bbr.fits" -}}
{{- $bytes := 0 -}}
{{- range .texts }}{{ $bytes = add $bytes (len .) }}{{ end -}}
{{- if gt $bytes 1048576 -}}
{{- fail (printf "%s: %d bytes, and a ConfigMap holds 1 MiB (1048576) at most: %s" .what $bytes .instead) -}}
{{- end -}}
{{- end }}

{{/* A flag's value. Helm reads each number as a float, and would write 33554432 as 3.3554432e+07. */}}
{{- define "bbr.text" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{/*
Flags of bbr.flags. Those that the chart gives by itself are refused, since two of one kind would say different things. So are
those that the router does not have: its pods would never be ready, and only their logs would say why.
*/}}
{{- define "bbr.flags" -}}
{{- $own := dict "grpc-port" "bbr.port" "grpc-health-port" "bbr.healthCheckPort" "metrics-port" "bbr.metricsPort" "drain-seconds" "bbr.drainSeconds" "drain-delay-seconds" "bbr.drainDelaySeconds" "discover-routes" "bbr.discoverRoutes" "asker" "bbr.asker" "discover-adapters" "bbr.discoverAdapters" "discover-interval" "bbr.discoverAdapters" "discover-token-file" "bbr.discoverAdapters" "discover-ca" "bbr.discoverAdapters" "discover-server-name" "bbr.discoverAdapters" "body-field" "bbr.bodyFields" "genai-metrics" "bbr.genaiMetrics" "tls-cert" "bbr.tls.secretName" "tls-key" "bbr.tls.secretName" "tracing" "bbr.tracing.enabled" "config-file" "bbr.customConfig" "config-text" "bbr.customConfig" "kubernetes" "the chart" "namespace" "bbr.multiNamespace" -}}
{{- $known := .Files.Get "files/flags.yaml" | fromYamlArray -}}
{{- range $name, $value := .Values.bbr.flags }}
{{- if not (has $name $known) }}
{{- fail (printf "bbr.flags.%s: the router has no flag of this name; `bbr serve --help-all` lists all" $name) }}
{{- end }}
{{- if hasKey $own $name }}
{{- fail (printf "bbr.flags.%s: this flag is set by %s" $name (get $own $name)) }}
{{- end }}
{{- if ne $name "secure-serving" }}
- {{ printf "--%s=%s" $name (include "bbr.text" $value) | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* The configuration of the payload processor, "" without one. What the router would refuse by name is refused here. */}}
{{- define "bbr.config" -}}
{{- with .Values.bbr.customConfig -}}
{{- if $.Values.bbr.plugins -}}
{{- fail "bbr.customConfig and bbr.plugins contradict each other: leave one out" -}}
{{- end -}}
{{- $known := list "body-field-to-header" "base-model-to-header" "single-profile-picker" -}}
{{- range .plugins -}}
{{- if not (has .type $known) -}}
{{- fail (printf "bbr.customConfig.plugins: %s is of the type %s, which this router does not have; known: %s" (.name | default .type) .type (join ", " $known)) -}}
{{- end -}}
{{- end -}}
{{- merge (dict) . (dict "apiVersion" "llm-d.ai/v1alpha1" "kind" "PayloadProcessorConfig") | toYaml -}}
{{- end -}}
{{- end }}

{{/* Variables of the router's container, as a YAML list under the key env; no two may have one name. */}}
{{- define "bbr.env" -}}
{{- $bbr := .Values.bbr -}}
{{- $env := list -}}
{{- if not $bbr.multiNamespace -}}
{{- $env = append $env (dict "name" "NAMESPACE" "valueFrom" (dict "fieldRef" (dict "fieldPath" "metadata.namespace"))) -}}
{{- end -}}
{{- $env = concat $env $bbr.env -}}
{{- if $bbr.tracing.enabled -}}
{{- $sampling := $bbr.tracing.sampling -}}
{{- range $pair := list (list "OTEL_SERVICE_NAME" $bbr.tracing.otelServiceName) (list "OTEL_EXPORTER_OTLP_ENDPOINT" $bbr.tracing.otelExporterEndpoint) (list "OTEL_TRACES_EXPORTER" "otlp") (list "OTEL_TRACES_SAMPLER" $sampling.sampler) (list "OTEL_TRACES_SAMPLER_ARG" $sampling.samplerArg) -}}
{{- $env = append $env (dict "name" (index $pair 0) "value" (index $pair 1)) -}}
{{- end -}}
{{- end -}}
{{- $seen := dict -}}
{{- range $env -}}
{{- if hasKey $seen .name -}}
{{- fail (printf "bbr.env: %s occurs twice, or is set by the chart" .name) -}}
{{- end -}}
{{- $_ := set $seen .name true -}}
{{- end -}}
{{- toYaml (dict "env" $env) -}}
{{- end }}

{{/* A model with all its names, as YAML: what values leave out follows from its base model. */}}
{{- define "bbr.model" -}}
{{- $given := .model -}}
{{- $base := required "models: each entry needs a baseModel" $given.baseModel -}}
{{- /* What follows the last slash, as a DNS label. */ -}}
{{- $label := regexReplaceAll "[^a-z0-9]+" ($base | lower | splitList "/" | last) "-" | trimAll "-" -}}
{{- $name := $given.name | default (regexReplaceAll "^([0-9]|$)" $label "m-${1}" | trunc 40 | trimSuffix "-") -}}
{{- $defaults := dict
      "name" $name
      "baseModel" $base
      "adapters" list
      "pool" (dict "create" true "name" (printf "%s-pool" $name) "targetPort" 8000 "healthPath" "/health" "timeoutSeconds" 300)
      "epp" (dict "create" true "name" (printf "%s-epp" $name) "replicas" 1)
      "route" (dict "create" true "name" (printf "%s-model-route" $name) "path" "/" "header" "base") -}}
{{- toYaml (mergeOverwrite $defaults (deepCopy $given)) -}}
{{- end }}

{{/* What the catch-all answers, in OpenAI's shape. */}}
{{- define "bbr.noModel" -}}
{"error":{"message":"The request names no model that is served here.","type":"invalid_request_error","param":"model","code":"model_not_found"}}
{{- end }}

{{/* The pickers' EndpointPickerConfig: that of the values, or the one that the image's project reads. */}}
{{- define "bbr.pickerConfig" -}}
{{- $epp := .Values.epp -}}
{{- $gie := ternary (contains "gateway-api-inference-extension" $epp.image) (eq $epp.configApi "gie") (eq $epp.configApi "auto") -}}
{{- $epp.config | default (.Files.Get (ternary "files/default-plugins-gie.yaml" "files/default-plugins.yaml" $gie)) -}}
{{- end }}

{{/* A file of alerts or of the dashboard, .file, with the address of the page that explains each alert. */}}
{{- define "bbr.withRunbook" -}}
{{- $text := .root.Files.Get .file -}}
{{- with .root.Values.bbr.runbook }}{{ $text = replace "docs/reference/alerts.md#" (printf "%s#" .) $text }}{{ end -}}
{{- $text -}}
{{- end }}

{{/* The catch-alls, each with its name and hosts, under the key routes. */}}
{{- define "bbr.catchAlls" -}}
{{- $own := .Values.inferenceGateway.hostnames | default list -}}
{{- $hosts := $own -}}
{{- range (include "bbr.models" . | fromYaml).models -}}
{{- if .route.create }}{{ $hosts = concat $hosts (.route.hostnames | default list) }}{{ end -}}
{{- end -}}
{{- /* A host of its own is a virtual host of its own: a request for it never meets a route without hosts. */ -}}
{{- $groups := ternary (list) (list (list)) (gt (len $own) 0) -}}
{{- /* A route has 16 hosts at most. */ -}}
{{- $groups = concat $groups (chunk 16 (uniq $hosts)) -}}
{{- $routes := list -}}
{{- range $index, $group := $groups -}}
{{- $number := ternary "" (printf "-%d" (add1 $index)) (eq $index 0) -}}
{{- $routes = append $routes (dict "name" (printf "%s-catch-all%s" $.Values.bbr.name $number) "hostnames" $group) -}}
{{- end -}}
{{- toYaml (dict "routes" $routes) -}}
{{- end }}

{{/* A catch-all, .route, as far as the match of its one rule. */}}
{{- define "bbr.catchAll" }}
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: {{ .route.name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "bbr.labels" .root | nindent 4 }}
spec:
  parentRefs:
    - {{- include "bbr.gateway" .root | nindent 6 }}
  {{- with .route.hostnames }}
  hostnames: {{- toYaml . | nindent 4 }}
  {{- end }}
  rules:
    - matches:
        - path: {type: PathPrefix, value: /}
{{- end }}
