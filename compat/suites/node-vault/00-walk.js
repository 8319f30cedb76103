// Mounts, policies, AppRole, PKI and wrapping with node-vault.
'use strict';
const assert = require('node:assert/strict');
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');

let vaultOf;
try {
  vaultOf = require('node-vault');
} catch {
  console.log('node-vault is not installed');
  process.exit(77);
}
const endpoint = process.env.VAULT_ADDR;
const client = () => vaultOf({ apiVersion: 'v1', endpoint, token: 'root' });

async function fails(status, promise) {
  try {
    await promise;
  } catch (error) {
    assert.equal(error.response.statusCode, status, error.message);
    return error.message;
  }
  assert.fail(`should fail with ${status}`);
}

async function main() {
  const vault = client();
  assert.equal((await vault.health()).sealed, false);
  assert.equal((await vault.initialized()).initialized, true);
  assert.equal((await vault.status()).sealed, false);

  await vault.mount({ mount_point: 'node', type: 'pki', description: 'from node' });
  assert.equal((await vault.mounts())['node/'].type, 'pki');
  await vault.write('sys/mounts/node/tune', { max_lease_ttl: '8760h' });
  await vault.remount({ from: 'node', to: 'node2' });
  for (let i = 0; i < 100 && !(await vault.mounts())['node2/']; i += 1) await new Promise((r) => setTimeout(r, 30));

  const rules = 'path "node2/sign/mesh" { capabilities = ["update"] }';
  await vault.addPolicy({ name: 'node', rules });
  assert.equal((await vault.getPolicy({ name: 'node' })).rules, rules);
  assert.ok((await vault.policies()).policies.includes('node'));

  const root = await vault.write('node2/root/generate/internal', { common_name: 'node root', key_type: 'ec', ttl: '8000h' });
  await vault.write('node2/roles/mesh', {
    allowed_uri_sans: 'spiffe://cluster.local/*', require_cn: false, key_type: 'any', max_ttl: '24h',
  });
  assert.deepEqual((await vault.list('node2/roles')).data.keys, ['mesh']);
  assert.equal((await vault.read('node2/roles/mesh')).data.max_ttl, 86400);
  await vault.update('node2/roles/mesh', { ttl: '1h' });
  assert.equal((await vault.read('node2/roles/mesh')).data.ttl, 3600);

  await vault.enableAuth({ mount_point: 'approle', type: 'approle', description: 'from node' });
  assert.equal((await vault.auths())['approle/'].type, 'approle');
  await vault.addApproleRole({ role_name: 'job', policies: 'node,other', token_ttl: 600 });
  assert.deepEqual((await vault.getApproleRole({ role_name: 'job' })).data.token_policies, ['node', 'other']);
  assert.deepEqual((await vault.approleRoles()).data.keys, ['job']);
  const { role_id } = (await vault.getApproleRoleId({ role_name: 'job' })).data;
  const { secret_id } = (await vault.getApproleRoleSecret({ role_name: 'job' })).data;
  assert.ok((await vault.approleSecretLookup({ role_name: 'job', secret_id })).data.creation_time);

  const job = client();
  const login = await job.approleLogin({ role_id, secret_id });
  assert.equal(job.token, login.auth.client_token);
  execFileSync('openssl', ['req', '-new', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'n.key', '-out', 'n.csr', '-subj', '/',
    '-addext', 'subjectAltName=URI:spiffe://cluster.local/ns/a/sa/b'], { stdio: 'ignore' });
  const signed = await job.write('node2/sign/mesh', { csr: fs.readFileSync('n.csr', 'utf8') });
  fs.writeFileSync('n.crt', `${signed.data.certificate}\n`);
  fs.writeFileSync('n-root.crt', `${root.data.certificate}\n`);
  execFileSync('openssl', ['verify', '-CAfile', 'n-root.crt', 'n.crt']);
  assert.match(await fails(403, job.read('node2/roles/mesh')), /permission denied/);
  assert.ok((await vault.list('node2/certs')).data.keys.includes(signed.data.serial_number));
  assert.ok((await vault.read(`node2/cert/${signed.data.serial_number}`)).data.certificate.includes('BEGIN CERTIFICATE'));
  await fails(404, vault.read('node2/cert/00:11'));
  await fails(404, vault.read('absent/path'));

  // node-vault goes over to the token of the answer: a client of its own for each.
  const made = await client().tokenCreate({ policies: ['default'], ttl: '1h' });
  const looked = await vault.tokenLookup({ token: made.auth.client_token });
  assert.equal(looked.data.ttl > 3590, true);
  await client().tokenRenew({ token: made.auth.client_token });
  await vault.tokenRevoke({ token: made.auth.client_token });
  await fails(403, vaultOf({ endpoint, token: made.auth.client_token }).tokenLookupSelf());

  const wrapped = await vaultOf({ endpoint, token: 'root', requestOptions: { headers: { 'X-Vault-Wrap-TTL': '60s' } } })
    .write('sys/wrapping/wrap', { hidden: 'text' }).catch(() => null);
  if (wrapped) {
    assert.equal((await vault.unwrap({ token: wrapped.wrap_info.token })).data.hidden, 'text');
  }

  await vault.deleteApproleRole({ role_name: 'job' });
  await vault.disableAuth({ mount_point: 'approle' });
  await vault.removePolicy({ name: 'node' });
  await vault.unmount({ mount_point: 'node2' });
  assert.equal((await vault.mounts())['node2/'], undefined);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
