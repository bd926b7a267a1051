// Every method of the public client against a node; exits 1 at the first answer that is wrong.
'use strict'
const assert = require('assert')
const bloomd = require('bloomd')

const client = bloomd.createClient({ host: '127.0.0.1', port: Number(process.argv[2]) })
client.on('error', (error) => { console.error('client error:', error); process.exit(1) })

const call = (method, ...args) => new Promise((resolve, reject) => {
  client[method](...args, (error, data) => (error ? reject(error) : resolve(data)))
})
const refused = async (method, ...args) => {
  try {
    await call(method, ...args)
  } catch (error) {
    return String(error.message || error)
  }
  throw new Error(`${method} was not refused`)
}

async function main () {
  assert.deepStrictEqual(await call('list', null), [])
  assert.strictEqual(await call('create', 'animals', { prob: 0.001, capacity: 50000 }), true)
  assert.strictEqual(await call('set', 'animals', 'monkey'), true)
  assert.strictEqual(await call('set', 'animals', 'monkey'), false)
  assert.strictEqual(await call('check', 'animals', 'monkey'), true)
  assert.strictEqual(await call('check', 'animals', 'magic'), false)
  assert.deepStrictEqual(await call('bulk', 'animals', ['monkey', 'magic', 'muppet']),
    { monkey: false, magic: true, muppet: true })
  assert.deepStrictEqual(await call('multi', 'animals', ['muppet', 'mitten']),
    { muppet: true, mitten: false })
  const info = await call('info', 'animals')
  assert.strictEqual(info.name, 'animals')
  assert.strictEqual(Number(info.size), 3)
  assert.strictEqual(Number(info.capacity), 50000)
  const list = await call('list', 'ani')
  assert.strictEqual(list.length, 1)
  assert.strictEqual(list[0].name, 'animals')
  await call('flush', 'animals')
  await call('close', 'animals')
  assert.strictEqual(await call('check', 'animals', 'monkey'), true)
  assert.match(await refused('check', 'nothing', 'x'), /Filter does not exist/)
  assert.match(await refused('create', 'small', { capacity: 10 }), /Bad arguments/)
  assert.strictEqual(await call('setSafe', 'made-when-needed', 'x'), true)
  assert.strictEqual(await call('check', 'made-when-needed', 'x'), true)

  const keys = Array.from({ length: 20000 }, (_, number) => `key-${number}`)
  const set = await call('bulk', 'animals', keys)
  assert.ok(Object.values(set).filter(Boolean).length > 19900)
  const seen = await call('multi', 'animals', keys)
  assert.ok(Object.values(seen).every(Boolean))
  await Promise.all(keys.map((key) => call('check', 'animals', key).then(assert.ok)))

  // One line of 2.5 MB, as the client's own suite sends.
  const many = Array.from({ length: 200000 }, (_, number) => `long-key-${number}`)
  assert.ok(many.join(' ').length > 2.5 * 1000 * 1000)
  const added = await call('bulk', 'animals', many)
  assert.ok(Object.values(added).filter(Boolean).length > 199000)
  assert.ok(Object.values(await call('multi', 'animals', many)).every(Boolean))

  await call('drop', 'animals')
  assert.match(await refused('check', 'animals', 'monkey'), /Filter does not exist/)
  console.log('ok: the public client is served')
  process.exit(0)
}

main().catch((error) => { console.error(error); process.exit(1) })
